"""Budgets in dollars: what they refuse, what they order, and what their reasons say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.model import (
    Budget,
    CancelDrain,
    Drain,
    Instance,
    Launch,
    Plan,
    Reason,
    Snapshot,
    Spent,
    Task,
    Terminate,
    WhenSpent,
)
from fleet.planner.plan import plan
from fleet.planner.windows import BUDGET_DRAIN, BUDGET_STOP, day_of, month_of
from tests.builders import a_queue, a_resource, a_snapshot, an_instance, an_offer, tasks

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
A_DOLLAR = an_offer(gpus=1, usd=1.0)


def a_world(budget: Budget, at: datetime = MIDNIGHT, count: int = 3, **changes: object) -> Snapshot:
    """Three tasks of a GPU each, and machines of one GPU at a dollar an hour."""
    world = a_snapshot(at=at, tasks=tasks(count), offers=(A_DOLLAR,), budget=budget)
    return replace(world, **changes)  # type: ignore[arg-type]


def launches(made: Plan) -> int:
    return sum(isinstance(action, Launch) for action in made.actions)


def orders(made: Plan) -> list[tuple[str, str]]:
    """What is ordered of machines that are there."""
    return [(type(a).__name__, a.instance) for a in made.actions if not isinstance(a, Launch)]


def why(made: Plan) -> Reason:
    """Why the last task waits."""
    return made.waiting[-1].reason


def a_machine(id: str = "i1", since: datetime = MIDNIGHT, usd: float | None = 1.0, **changes: object) -> Instance:
    """Busy, at a dollar an hour."""
    base = an_instance(id, gpus=1, held=1, offer=an_offer(gpus=1, usd=usd), requested_at=since, launched_at=since)
    return replace(base, heartbeat_at=MIDNIGHT + 400 * HOUR, **changes)  # type: ignore[arg-type]


# --- hold


def test_what_runs_for_ever_is_paid_to_midnight_and_for_the_whole_next_day() -> None:
    assert launches(plan(a_world(Budget(usd_per_day=24)))) == 1
    assert launches(plan(a_world(Budget(usd_per_day=23.9)))) == 0
    late = MIDNIGHT + 23 * HOUR
    assert launches(plan(a_world(Budget(usd_per_day=47.9), late))) == 1, "tomorrow they would cost a day's money each"
    assert launches(plan(a_world(Budget(usd_per_day=48), late))) == 2


def test_what_has_a_longest_life_is_paid_for_that_and_for_its_end() -> None:
    a_life = 1 + 0.25 + 128 / 3600
    world = a_world(Budget(usd_per_day=2.01 * a_life), resources=(a_resource(max_lifetime=HOUR),))
    assert launches(plan(world)) == 2
    assert launches(plan(replace(world, budget=Budget(usd_per_day=1.99 * a_life)))) == 1


def test_what_was_spent_and_what_still_runs_count() -> None:
    noon = MIDNIGHT + 12 * HOUR
    runs = a_machine()
    gone = (Spent(queue="train", user=None, usd=11.9),)
    budget = Budget(usd_per_day=48)
    assert launches(plan(a_world(budget, noon, instances=(runs,)))) == 1
    assert launches(plan(a_world(budget, noon, instances=(runs,), spent_today=gone))) == 1
    more = (replace(gone[0], usd=12.1),)
    refused = plan(a_world(budget, noon, instances=(runs,), spent_today=more))
    assert launches(refused) == 0
    assert (why(refused).code, why(refused).limit) == ("usd_per_day", "budget.usd_per_day=48")
    assert "$24.10 are spent today of $48.00" in why(refused).text


def test_a_day_inside_a_month_is_held_by_both() -> None:
    assert launches(plan(a_world(Budget(usd_per_day=48, usd_per_month=31 * 24)))) == 1, "some month has 31 days"
    assert why(plan(a_world(Budget(usd_per_day=48, usd_per_month=31 * 24 - 1)))).code == "usd_per_month"


def test_days_and_months_are_those_of_utc() -> None:
    eve = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    assert (day_of(eve).end, month_of(eve).end) == (datetime(2027, 1, 1, tzinfo=UTC),) * 2
    assert month_of(datetime(2028, 2, 29, tzinfo=UTC)).end == datetime(2028, 3, 1, tzinfo=UTC)


def test_a_refusal_says_what_would_change_it() -> None:
    never = why(plan(a_world(Budget(usd_per_day=10)))).text
    assert "never, because nobody ends what runs: set resources.gpu.max_lifetime (less than 10.0h pays)" in never
    assert "or budget.when_spent: stop, or raise budget.usd_per_day" in never
    too_little = why(plan(a_world(Budget(usd_per_day=0.02, when_spent=WhenSpent.STOP)))).text
    assert "too little for one such machine to boot and to end: raise budget.usd_per_day" in too_little


def test_a_refusal_says_when_it_frees_and_the_plan_changes_then() -> None:
    world = a_world(Budget(usd_per_day=3), resources=(a_resource(max_lifetime=HOUR),), count=1)
    refused = plan(replace(world, spent_today=(Spent(queue=None, user=None, usd=2.5),)))
    assert "frees at 2026-11-22 23:30 UTC at the latest, or raise budget.usd_per_day" in why(refused).text
    assert refused.wake_at == MIDNIGHT + 23.5 * HOUR
    later = replace(world, at=refused.wake_at, spent_today=(Spent(queue=None, user=None, usd=2.5),))
    assert launches(plan(later)) == 1


def test_of_several_budgets_that_refuse_the_one_that_frees_last_is_named() -> None:
    mortal = (a_resource(max_lifetime=HOUR),)
    gone = (Spent(queue=None, user="ann", usd=9.9),)
    world = a_world(Budget(usd_per_day=10), count=1, spent_today=gone, spent_this_month=gone, resources=mortal)
    assert why(plan(world)).limit == "budget.usd_per_day=10"
    month = plan(replace(world, budget=Budget(usd_per_day=10, usd_per_month=10)))
    assert why(month).limit == "budget.usd_per_month=10"
    assert "frees at 2026-11-30 23:54 UTC at the latest, or raise budget.usd_per_month" in why(month).text
    anns = Budget(usd_per_day=10, per_user=Budget(max_instances=0))
    assert why(plan(replace(world, budget=anns))).limit == "budget.per_user.max_instances=0"


def freed(refused: Plan) -> datetime:
    """When the last task's machine can be paid, as its reason says."""
    said = why(refused).text.partition("frees at ")[2].partition(" UTC at the latest")[0]
    return datetime.strptime(said, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


@pytest.mark.parametrize("cap", [4.7, 5.0, 6.1])
def test_what_runs_to_its_longest_life_frees_nothing_and_the_reason_reckons_with_that(cap: float) -> None:
    mortal = (a_resource(max_lifetime=2 * HOUR),)
    nine, runs = MIDNIGHT + 9 * HOUR, (a_machine("a", MIDNIGHT + 8 * HOUR), a_machine("b", MIDNIGHT + 8 * HOUR))
    refused = plan(a_world(Budget(usd_per_day=cap), nine, 1, instances=runs, resources=mortal))
    at = freed(refused)
    gone = (Spent(queue="train", user=None, usd=2 * (2.25 + 128 / 3600)),)
    world = a_world(Budget(usd_per_day=cap), at, 1, spent_today=gone, resources=mortal)
    assert launches(plan(replace(world, at=at + HOUR / 60))) == 1
    assert launches(plan(replace(world, at=at - HOUR / 30))) == 0
    assert refused.wake_at is not None
    assert timedelta(0) <= refused.wake_at - at < HOUR / 60


def test_money_that_is_committed_for_tomorrow_frees_when_that_day_is_nearly_over() -> None:
    mortal = (a_resource(max_lifetime=24 * HOUR),)
    late = MIDNIGHT + 20 * HOUR
    refused = plan(a_world(Budget(usd_per_day=26), late, 1, instances=(a_machine("a", late),), resources=mortal))
    a_life = 24.25 + 128 / 3600
    at = MIDNIGHT + 48 * HOUR - (26 - (a_life - 4)) * HOUR
    assert timedelta(0) <= at - freed(refused) < HOUR / 60


@pytest.mark.parametrize("usd", [None, float("nan"), float("inf"), -1.0, 0.0])
def test_with_a_budget_in_dollars_nothing_without_a_price_is_launched(usd: float | None) -> None:
    for budget in (Budget(usd_per_hour=9), Budget(usd_per_day=999), Budget(usd_per_month=9999)):
        refused = plan(a_world(budget, offers=(replace(A_DOLLAR, price_usd_per_hour=usd),)))
        assert (launches(refused), why(refused).code) == (0, "price_unknown")
        beside = plan(a_world(budget, instances=(a_machine(usd=usd),)))
        assert (launches(beside), why(beside).code) == (0, "price_unknown"), "what runs has none either"


def test_a_machine_of_ones_own_may_cost_nothing() -> None:
    own = replace(A_DOLLAR, price_usd_per_hour=0.0, provider="local")
    for mode in WhenSpent:
        assert launches(plan(a_world(Budget(usd_per_day=1, when_spent=mode), offers=(own,)))) == 3


# --- queues and users


def test_a_queue_has_its_own_money() -> None:
    queues = (a_queue("train"), a_queue("sweep"))
    both = (*tasks(2), *tasks(2, queue="sweep"))
    both = tuple(replace(t, id=f"{t.queue}-{t.id}") for t in both)
    budget = Budget(queues={"sweep": Budget(usd_per_hour=1)})
    made = plan(a_world(budget, tasks=both, queues=queues))
    assert sorted(a.reason.queue or "" for a in made.actions) == ["sweep", "train", "train"]
    assert (why(made).code, why(made).limit) == ("usd_per_hour", "queues.sweep.budget.usd_per_hour=1")


def test_each_user_has_the_budget_of_every_user_or_his_own() -> None:
    def of(user: str, count: int) -> tuple[Task, ...]:
        return tuple(replace(t, id=f"{user}-{t.id}", user=user) for t in tasks(count))

    budget = Budget(per_user=Budget(max_instances=1), users={"ann": Budget(usd_per_hour=2)})
    made = plan(a_world(budget, tasks=(*of("ann", 4), *of("bob", 4), *of("cem", 4))))
    assert sorted(a.reason.user or "" for a in made.actions) == ["ann", "ann", "bob", "cem"]
    limits = {w.reason.limit for w in made.waiting if w.instance is None}
    assert limits == {"budget.users.ann.usd_per_hour=2", "budget.per_user.max_instances=1"}


def test_a_machine_is_paid_by_whom_it_was_launched_for() -> None:
    for_ann = a_machine(reason=Reason(code="demand", text="", queue="train", user="ann"))
    budget = Budget(per_user=Budget(usd_per_hour=1))
    bobs = tuple(replace(t, user="bob") for t in tasks(1))
    assert launches(plan(a_world(budget, tasks=bobs, instances=(for_ann,)))) == 1
    anns = tuple(replace(t, user="ann") for t in tasks(1))
    assert launches(plan(a_world(budget, tasks=anns, instances=(for_ann,)))) == 0


# --- drain


def test_when_a_cap_is_lowered_the_least_urgent_machines_pull_no_more_and_again_when_it_is_raised() -> None:
    queues = (a_queue("train"), a_queue("urgent", priority=9))
    machines = [
        a_machine(n, reason=Reason(code="demand", text="", queue=q)) for n, q in (("a", "train"), ("b", "urgent"))
    ]
    lowered = Budget(usd_per_day=30, when_spent=WhenSpent.DRAIN)
    made = plan(a_world(lowered, tasks=(), queues=queues, instances=tuple(machines)))
    assert orders(made) == [("Drain", "a")]
    (drain,) = made.actions
    assert (drain.reason.code, drain.reason.limit) == (BUDGET_DRAIN, "budget.usd_per_day=30")
    drained = replace(machines[0], drain_requested_at=MIDNIGHT, stopped_pulling_at=MIDNIGHT, end_reason=drain.reason)
    there = (drained, machines[1])
    assert orders(plan(a_world(lowered, tasks=(), queues=queues, instances=there))) == []
    for raised in (replace(lowered, usd_per_day=48), Budget(usd_per_day=30), Budget()):
        made = plan(a_world(raised, tasks=(), queues=queues, instances=there))
        assert orders(made) == [("CancelDrain", "a")]


def test_only_what_a_budget_ordered_is_taken_back() -> None:
    by_operator = a_machine(drain_requested_at=MIDNIGHT, end_reason=Reason(code="operator", text=""))
    assert orders(plan(a_world(Budget(usd_per_day=99, when_spent=WhenSpent.DRAIN), instances=(by_operator,)))) == []


def test_a_machine_whose_drain_is_taken_back_has_room_at_once() -> None:
    reason = Reason(code=BUDGET_DRAIN, text="")
    idle = replace(
        a_machine(drain_requested_at=MIDNIGHT, stopped_pulling_at=MIDNIGHT, end_reason=reason), allocations=()
    )
    made = plan(a_world(Budget(usd_per_day=99, when_spent=WhenSpent.STOP), count=1, instances=(idle,)))
    assert orders(made) == [("CancelDrain", "i1")]
    assert launches(made) == 0


# --- stop


STOP = Budget(usd_per_day=4, when_spent=WhenSpent.STOP)
ENDS_WITHIN = timedelta(seconds=128)


def test_all_pull_no_more_before_the_money_is_spent_and_end_while_it_lasts() -> None:
    two = (a_machine("a"), a_machine("b"))
    calm = plan(a_world(STOP, MIDNIGHT + HOUR, instances=two))
    stop_at = MIDNIGHT + 2 * HOUR - ENDS_WITHIN
    assert orders(calm) == []
    assert calm.wake_at is not None
    drains = plan(a_world(STOP, calm.wake_at, instances=two))
    assert timedelta(0) < stop_at - calm.wake_at <= timedelta(minutes=10)
    assert orders(drains) == [("Drain", "a"), ("Drain", "b")]
    assert drains.wake_at == stop_at
    assert orders(plan(a_world(STOP, stop_at - timedelta(seconds=1), instances=two))) == orders(drains)
    stops = plan(a_world(STOP, stop_at, instances=two))
    assert orders(stops) == [("Terminate", "a"), ("Terminate", "b")]
    assert {a.reason.code for a in stops.actions} == {BUDGET_STOP}
    assert launches(stops) == 0


def test_what_lasts_until_midnight_is_not_stopped_and_a_new_day_has_new_money() -> None:
    late = MIDNIGHT + 21 * HOUR
    made = plan(a_world(STOP, late, instances=(a_machine(since=late - HOUR),), count=0))
    assert (orders(made), made.wake_at) == ([], MIDNIGHT + 24 * HOUR)
    stopping = Reason(code=BUDGET_DRAIN, text="", limit="budget.usd_per_day=4")
    drained = a_machine(since=late, drain_requested_at=late, end_reason=stopping)
    assert orders(plan(a_world(STOP, MIDNIGHT + 24 * HOUR, instances=(drained,)))) == [("CancelDrain", "i1")]


def test_nothing_is_launched_that_would_soon_be_stopped() -> None:
    assert launches(plan(a_world(STOP, count=9))) == 1
    assert launches(plan(a_world(replace(STOP, usd_per_day=8), count=9))) == 3
    assert launches(plan(a_world(replace(STOP, usd_per_day=0.5), count=9))) == 1, "half of a small cap is enough"


def test_an_intent_is_not_given_up_before_the_cloud_has_answered() -> None:
    at = MIDNIGHT + 4 * HOUR
    asked = a_machine(cloud_id=None, launched_at=None, enrolled_at=None, allocations=())
    made = plan(a_world(STOP, at, instances=(asked,)))
    assert (orders(made), made.wake_at) == ([], at + timedelta(seconds=2))
    assert orders(plan(a_world(STOP, at, instances=(replace(asked, cloud_id="c", launched_at=at),)))) == [
        ("Terminate", "i1")
    ]


# --- all of them


@pytest.mark.parametrize("mode", WhenSpent)
def test_more_money_never_runs_less_work(mode: WhenSpent) -> None:
    for kind in ("usd_per_hour", "usd_per_day", "usd_per_month"):
        counts = [
            launches(plan(a_world(Budget(**{kind: cap * 1.0, "when_spent": mode}), count=40)))
            for cap in range(1, 900, 7)
        ]
        assert counts == sorted(counts)
        assert counts[-1] > 0


def test_orders_name_the_machine_once() -> None:
    """Every kind of budget wants it gone; it is told so once."""
    budget = replace(STOP, usd_per_month=4.0, usd_per_hour=0.5, queues={"train": STOP}, per_user=STOP)
    machine = a_machine(reason=Reason(code="demand", text="", queue="train", user="ann"))
    made = plan(a_world(budget, MIDNIGHT + 5 * HOUR, instances=(machine,)))
    assert [type(a) for a in made.actions if a.instance == "i1"] == [Terminate]
    assert not [a for a in made.actions if isinstance(a, Drain | CancelDrain)]
