"""`market: spot_then_on_demand`: how long a task waits for spot, and the way back to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from fleet.model import Backoff, Drain, Instance, Launch, Market, MarketPolicy, Reason, Resource, Snapshot, Task
from fleet.planner.plan import plan
from tests.builders import BECAUSE, T0, a_resource, a_snapshot, a_task, an_instance, an_offer

SPOT = an_offer(usd=0.4, market=Market.SPOT, zone="a")
ON_DEMAND = an_offer(usd=1.01, zone="a")


def mixed(**changes: Any) -> Resource:
    return a_resource(market=MarketPolicy.SPOT_THEN_ON_DEMAND, **changes)


def sold_out(minutes: float = 10, **changes: Any) -> Backoff:
    base = Backoff(
        resource="gpu",
        type="fake-4gpu",
        zone="a",
        market=Market.SPOT,
        until=T0 + timedelta(minutes=minutes),
        reason=Reason(code="backoff", text="it failed"),
        times=3,
    )
    return replace(base, **changes)


def a_world(*tasks: Task, **changes: Any) -> Snapshot:
    base = a_snapshot(tasks=tasks, resources=(mixed(),), offers=(SPOT, ON_DEMAND))
    return replace(base, **changes)


def waited(minutes: float, name: str = "t1") -> Task:
    return a_task(name, enqueued_at=T0 - timedelta(minutes=minutes))


def markets(world: Snapshot) -> list[Market]:
    return [a.offer.market for a in plan(world).actions if isinstance(a, Launch)]


def test_spot_is_taken_first() -> None:
    assert markets(a_world(waited(60))) == [Market.SPOT]


def test_while_spot_is_sold_out_a_task_waits_for_its_turn_and_is_told_all_of_it() -> None:
    made = plan(a_world(waited(1), backoffs=(sold_out(),)))
    assert made.actions == ()
    (waiting,) = made.waiting
    assert (waiting.reason.code, waiting.reason.limit) == ("spot_wait", "resources.gpu.fallback_after=5m")
    assert waiting.reason.text == (
        "spot fake-4gpu in a cannot be had until 09:10:00 UTC (3rd time); on-demand fake-4gpu at $1.01 from "
        "09:04:00 UTC, 4m from now (resources.gpu.fallback_after=5m)"
    )
    assert made.wake_at == T0 + timedelta(minutes=4)


def test_a_task_that_has_waited_long_enough_gets_on_demand_and_its_reason_names_what_lost() -> None:
    (made,) = [a for a in plan(a_world(waited(5), backoffs=(sold_out(),))).actions if isinstance(a, Launch)]
    assert made.offer.market is Market.ON_DEMAND
    assert made.reason.text.endswith("; spot fake-4gpu in a cannot be had until 09:10:00 UTC (3rd time)")


def test_of_one_class_only_those_that_have_waited_long_enough_get_on_demand() -> None:
    tasks = (a_task("young", gpus=4), a_task("old", gpus=4, position=1, enqueued_at=T0 - timedelta(minutes=9)))
    (made,) = plan(a_world(*tasks, backoffs=(sold_out(),))).actions
    assert isinstance(made, Launch)
    assert made.tasks == ("old",)


def test_with_no_time_to_wait_on_demand_is_taken_at_once() -> None:
    resources = (mixed(fallback_after=timedelta(0)),)
    assert markets(a_world(a_task(), backoffs=(sold_out(),), resources=resources)) == [Market.ON_DEMAND]


def test_another_zone_that_has_spot_is_not_waited_for() -> None:
    offers = (SPOT, replace(SPOT, zone="b"), ON_DEMAND)
    (made,) = plan(a_world(a_task(), offers=offers, backoffs=(sold_out(),))).actions
    assert isinstance(made, Launch)
    assert (made.offer.market, made.offer.zone) == (Market.SPOT, "b")


def test_nobody_waits_for_spot_that_does_not_pay() -> None:
    offers = (replace(SPOT, price_usd_per_hour=1.5), ON_DEMAND)
    assert markets(a_world(a_task(), offers=offers, backoffs=(sold_out(),))) == [Market.ON_DEMAND]


def test_a_resource_that_is_bought_on_demand_waits_for_nothing() -> None:
    assert markets(a_world(a_task(), resources=(a_resource(),), offers=(ON_DEMAND,))) == [Market.ON_DEMAND]


# --- the way back


def idle_on_demand(minutes: float = 5, **changes: Any) -> Instance:
    base = an_instance("old", offer=ON_DEMAND, idle_since=T0 - timedelta(minutes=minutes))
    return replace(base, **changes)


def newer_spot(**changes: Any) -> Instance:
    return replace(an_instance("new", offer=SPOT, held=1, requested_at=T0 - timedelta(minutes=4)), **changes)


def drained(world: Snapshot) -> list[str]:
    return [a.instance for a in plan(world).actions if isinstance(a, Drain)]


def test_an_idle_machine_on_demand_makes_way_when_spot_has_come_up_since() -> None:
    world = a_world(instances=(idle_on_demand(), newer_spot()))
    (drain,) = plan(world).actions
    assert isinstance(drain, Drain)
    assert (drain.instance, drain.reason.code) == ("old", "return_to_spot")
    assert "idle on demand at $1.01 an hour, and spot of resource gpu is there again at $0.40" in drain.reason.text


def test_a_busy_machine_on_demand_is_left_alone() -> None:
    assert drained(a_world(instances=(an_instance("old", offer=ON_DEMAND, held=1), newer_spot()))) == []


def test_without_a_newer_spot_machine_nothing_is_exchanged() -> None:
    assert drained(a_world(instances=(idle_on_demand(),))) == []
    older = newer_spot(requested_at=T0 - timedelta(hours=1))
    assert drained(a_world(instances=(idle_on_demand(), older))) == []


def test_what_is_idle_only_since_a_moment_ago_is_looked_at_later() -> None:
    made = plan(a_world(instances=(idle_on_demand(0.5), newer_spot())))
    assert (made.actions, made.wake_at) == ((), T0 + timedelta(seconds=30))


def test_one_at_a_time() -> None:
    two = (idle_on_demand(), idle_on_demand(id="older", requested_at=T0 - timedelta(hours=2)))
    assert drained(a_world(instances=(*two, newer_spot()))) == ["older"]
    going = replace(two[1], drain_requested_at=T0, end_reason=Reason(code="return_to_spot", text="spot is back"))
    assert drained(a_world(instances=(two[0], going, newer_spot()))) == []


def test_while_tasks_wait_or_spot_is_sold_out_again_nothing_is_exchanged() -> None:
    both = (idle_on_demand(), newer_spot())
    assert drained(a_world(a_task(gpus=8), instances=both)) == []
    assert drained(a_world(instances=both, backoffs=(sold_out(),))) == []


def test_a_pause_of_a_family_a_region_or_a_provider_covers_every_resource_there() -> None:
    for pause in ({"family": "fake"}, {"provider": "fake"}, {"region": "r1", "market": Market.SPOT}):
        offers = (replace(SPOT, region="r1"),)
        backoff = Backoff(until=T0 + timedelta(minutes=1), reason=BECAUSE, **pause)  # type: ignore[arg-type]
        assert markets(a_world(a_task(), offers=offers, backoffs=(backoff,))) == []


def test_what_is_probed_gets_one_machine_in_a_plan() -> None:
    probe = Backoff(provider="fake", until=T0, reason=BECAUSE, is_probing=True)
    tasks = tuple(a_task(f"t{n}", gpus=4, position=n) for n in range(3))
    made = plan(a_world(*tasks, backoffs=(probe,)))
    assert len(made.actions) == 1
    assert [w.reason.code for w in made.waiting] == ["launching", "test", "test"]
