"""Machines whose GPUs are sick: no room for tasks, and replaced, but never many at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.model import Allocation, Drain, Instance, Launch, Reason
from fleet.planner.breaker import Trial
from fleet.planner.plan import plan
from fleet.planner.sick import replace_sick
from tests.builders import T0, a_resource, a_snapshot, a_task, an_instance, an_offer, tasks

XID = "Xid 79: it has fallen off the bus"


def with_sick(instance: Instance, *indices: int) -> Instance:
    gpus = tuple(replace(gpu, sick=XID if gpu.index in indices else None) for gpu in instance.gpus)
    return replace(instance, gpus=gpus)


def fleet_of(count: int, *indices: int, held: int = 0) -> tuple[Instance, ...]:
    """Machines of four GPUs, these of each sick."""
    return tuple(with_sick(an_instance(f"i{n}", held=held), *indices) for n in range(count))


def drained(**world: object) -> list[str]:
    return [drain.instance for drain in replace_sick(a_snapshot(**world), ())]


def test_a_machine_with_more_than_half_of_its_gpus_sick_is_replaced() -> None:
    assert drained(instances=fleet_of(1, 0, 1)) == []
    (drain,) = replace_sick(a_snapshot(instances=fleet_of(1, 0, 1, 2)), ())
    assert drain.reason == Reason(
        code="gpus_sick",
        text=f"3 of 4 GPUs are sick (GPU 0: {XID})",
        limit="resources.gpu.replace_sick=0.5",
    )


@pytest.mark.parametrize(("replace_at", "sick", "replaced"), [(0.0, 1, True), (0.75, 3, False), (None, 4, False)])
def test_its_resource_says_how_many_may_be_sick(replace_at: float | None, sick: int, replaced: bool) -> None:
    resources = (a_resource(replace_sick=replace_at),)
    assert bool(drained(instances=fleet_of(1, *range(sick)), resources=resources)) is replaced


def test_a_machine_that_can_no_longer_hold_what_waits_is_replaced() -> None:
    large = (a_task("big", 4),)
    (drain,) = replace_sick(a_snapshot(instances=fleet_of(1, 3), tasks=large), ())
    text = f"1 of 4 GPUs are sick (GPU 3: {XID}), and task big, which waits, needs 4"
    assert (drain.reason.text, drain.reason.task) == (text, "big")
    assert drained(instances=fleet_of(1, 3), tasks=(a_task("small", 3),)) == []
    assert drained(instances=fleet_of(1, 3), tasks=(a_task("never", 8),)) == []  # it never could


def test_of_five_that_are_sick_one_is_replaced_at_a_time_and_of_ten_two() -> None:
    assert drained(instances=fleet_of(5, 0, 1, 2)) == ["i0"]
    assert drained(instances=fleet_of(10, 0, 1, 2)) == ["i0", "i1"]
    first, *others = fleet_of(5, 0, 1, 2)
    why = Reason(code="gpus_sick", text="sick")
    under_way = replace(first, drain_requested_at=T0, end_reason=why)
    assert drained(instances=(under_way, *others)) == []
    gone_soon = replace(under_way, goodbye_at=T0)
    assert drained(instances=(gone_soon, *others)) == []


def test_idle_machines_go_first_then_those_with_most_sick_gpus() -> None:
    busy = with_sick(an_instance("a-busy", held=1), 1, 2, 3)
    idle = with_sick(an_instance("b-idle"), 1, 2, 3)
    worst = with_sick(an_instance("c-worst"), 0, 1, 2, 3)
    assert drained(instances=(busy, idle, worst)) == ["c-worst"]
    assert drained(instances=(busy, idle)) == ["b-idle"]
    assert drained(instances=(busy,)) == ["a-busy"]


def test_what_does_not_pull_any_more_needs_no_order() -> None:
    (sick,) = fleet_of(1, 0, 1, 2)
    assert drained(instances=(replace(sick, stopped_pulling_at=T0),)) == []
    assert replace_sick(a_snapshot(instances=(sick,)), {sick.id}) == ()


def test_gpus_that_a_machine_never_showed_count_once_its_driver_has_had_time() -> None:
    machine = replace(an_instance("i1"), gpus=())
    assert drained(instances=(machine,)) == []
    late = replace(machine, enrolled_at=T0 - timedelta(minutes=11))
    (drain,) = replace_sick(a_snapshot(instances=(late,)), ())
    assert drain.reason.text == "4 of 4 GPUs are sick (its driver shows 0, and 4 were launched)"


def test_sick_gpus_are_no_room_so_a_machine_is_launched_for_what_waits() -> None:
    (machine,) = fleet_of(1, 1, 2)
    full = replace(
        machine, allocations=(Allocation(task="x", queue="train", worker="w", gpus=("GPU-0",), started_at=T0),)
    )
    made = plan(a_snapshot(instances=(full,), tasks=tasks(1), offers=(an_offer(gpus=4),)))
    assert [w.instance for w in made.waiting] == ["i0"]  # GPU 3 is left
    made = plan(a_snapshot(instances=(full,), tasks=tasks(2), offers=(an_offer(gpus=4),)))
    assert sum(isinstance(action, Launch) for action in made.actions) == 1


def test_a_task_that_still_holds_a_sick_gpu_takes_no_room_of_the_healthy_ones() -> None:
    (machine,) = fleet_of(1, 0)
    held = Allocation(task="x", queue="train", worker="w", gpus=("GPU-0",), started_at=T0)
    half = replace(held, task="y", share=0.5)
    world = a_snapshot(instances=(replace(machine, allocations=(held, half)),), tasks=tasks(3))
    assert [w.instance for w in plan(world).waiting] == ["i0"] * 3


def test_a_plan_drains_the_sick_machine_and_launches_another_for_what_waits() -> None:
    (machine,) = fleet_of(1, 0, 1, 2)
    made = plan(a_snapshot(instances=(machine,), tasks=tasks(1), offers=(an_offer(gpus=4),)))
    assert [type(action) for action in made.actions] == [Drain, Launch]


def test_machines_whose_gpus_were_sick_from_the_start_count_for_the_breaker() -> None:
    trial = Trial(instance="i", resource="gpu", requested_at=T0, ended_at=T0, end_code="gpus_sick")
    assert trial.has_failed
    assert not replace(trial, has_worked=True).has_failed
