"""What a plan does when a window opens or closes. Limits come to it as they are in force."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fleet.model import Budget, CancelDrain, Drain, Instance, Plan, Reason, Window
from fleet.planner.plan import plan
from tests.builders import T0, a_queue, a_resource, a_snapshot, a_task, an_instance

DAY = Window(cron="0 8 * * 1-5", lasts=timedelta(hours=10), max_instances=4)
NIGHT = a_resource(max_instances=1, schedule=(DAY,), opens_at=T0.replace(hour=8) + timedelta(days=1))
NOON = a_resource(max_instances=4, schedule=(DAY,), open_windows=(0,))
SURPLUS = Reason(code="surplus", text="a window closed")


def drained(made: Plan) -> list[str]:
    return [a.instance for a in made.actions if isinstance(a, Drain)]


def draining(id: str, **changes: object) -> Instance:
    return an_instance(id, drain_requested_at=T0, end_reason=SURPLUS, **changes)


def test_at_the_end_of_a_window_the_surplus_drains_idle_ones_first() -> None:
    there = (an_instance("busy", held=2), an_instance("idle"), an_instance("boots", ready=False))
    made = plan(a_snapshot(resources=(NIGHT,), instances=there))
    assert drained(made) == ["idle", "boots"]
    assert made.actions[0].reason.text == (
        "3 instances take tasks, and resources.gpu.max_instances=1: it pulls no more and ends when it is empty"
    )


def test_no_task_waits_for_a_machine_that_is_to_drain() -> None:
    world = a_snapshot(
        resources=(NIGHT,), instances=(an_instance("busy", held=4), an_instance("idle")), tasks=(a_task(),)
    )
    (waiting,) = plan(world).waiting
    assert waiting.instance is None
    assert waiting.reason.text == (
        "resource gpu has 2 instances, more than resources.gpu.max_instances=1 allows; "
        "its next window opens at Mon 2026-11-23 08:00 UTC"
    )


def test_the_limit_of_an_open_window_is_named_by_its_path() -> None:
    there = tuple(an_instance(f"i{n}", held=4) for n in range(4))
    (waiting,) = plan(a_snapshot(resources=(NOON,), instances=there, tasks=(a_task(),))).waiting
    assert waiting.reason.limit == "resources.gpu.schedule[0].max_instances=4"


def test_when_the_window_opens_again_the_drain_is_taken_back_and_the_machine_has_room() -> None:
    made = plan(a_snapshot(resources=(NOON,), instances=(draining("i1"),), tasks=(a_task(),)))
    assert [(type(a), a.instance) for a in made.actions] == [(CancelDrain, "i1")]
    assert made.waiting[0].instance == "i1"


def test_a_drain_that_somebody_else_ordered_is_not_taken_back() -> None:
    made = plan(a_snapshot(resources=(NOON,), instances=(an_instance(drain_requested_at=T0),)))
    assert made.actions == ()


def test_only_as_many_drains_are_taken_back_as_the_limit_allows() -> None:
    two = replace(NOON, max_instances=2)
    there = (an_instance("a"), draining("b"), draining("c"))
    assert [a.instance for a in plan(a_snapshot(resources=(two,), instances=there)).actions] == ["b"]


def test_the_fleets_own_window_drains_over_all_resources_and_spares_the_minimum() -> None:
    resources = (a_resource(min_instances=1), a_resource("other"))
    other = an_instance("other", offer=replace(an_instance().offer, resource="other"))
    world = a_snapshot(
        queues=(a_queue(resources=("gpu", "other")),),
        resources=resources,
        instances=(an_instance("warm"), other),
        budget=Budget(max_instances=1, schedule=(DAY,)),
    )
    assert drained(plan(world)) == ["other"]


def test_a_minimum_of_a_window_is_launched_while_it_is_open() -> None:
    window = replace(DAY, min_instances=2)
    (first, second) = plan(a_snapshot(resources=(replace(NOON, min_instances=2, schedule=(window,)),))).actions
    assert first.reason == second.reason
    assert first.reason.text == "resources.gpu.schedule[0].min_instances=2 are kept at all times"
