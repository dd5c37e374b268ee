"""The room on machines: what is found there once holds as long as the machine says nothing new."""

from dataclasses import replace
from unittest.mock import patch

from hypothesis import given

from fleet.model import Allocation, Instance, Snapshot
from fleet.planner import plan, rooms
from fleet.planner.capacity import Room, Wish
from fleet.planner.rooms import add_full, rooms_of
from tests.builders import T0, a_queue, a_resource, an_instance
from tests.planner.test_properties import worlds
from tests.planner.worlds import snapshots

RESOURCES, QUEUES = (a_resource(),), (a_queue(),)
MACHINE = an_instance(gpus=2)


def all_rooms(instances: list[Instance]) -> dict[str, list[Room]]:
    return rooms_of(instances, RESOURCES, QUEUES, lambda _: None)


def test_what_one_plan_takes_of_a_machine_is_there_again_for_the_next() -> None:
    (first,) = all_rooms([MACHINE])["gpu"]
    assert first.take(Wish(2, None, None), QUEUES[0], 0)
    (second,) = all_rooms([MACHINE])["gpu"]
    assert (first.free_gpus, second.free_gpus) == (0, 2)


def test_a_machine_that_says_something_new_is_looked_at_again() -> None:
    all_rooms([MACHINE])
    smaller = replace(MACHINE, gpus=MACHINE.gpus[:1])
    (room,) = all_rooms([smaller])["gpu"]
    assert room.free_gpus == len(smaller.gpus)


def test_machines_that_are_gone_are_forgotten() -> None:
    many = [replace(MACHINE, id=f"i-{n}") for n in range(3 * rooms.SPARE)]
    all_rooms(many)
    all_rooms(many[:1])
    assert list(rooms._latest) == ["i-0"]


def test_full_machines_are_left_out_until_they_are_asked_for() -> None:
    held = tuple(gpu.uuid for gpu in MACHINE.gpus)
    full = replace(
        MACHINE, id="full", allocations=(Allocation(task="t", queue="q", worker="w", gpus=held, started_at=T0),)
    )
    for _ in range(2):  # the second time it is known
        found = rooms_of([full, MACHINE], RESOURCES, QUEUES, lambda _: None, is_for_gpus=True)
        assert [room.instance for room in found["gpu"]] == [MACHINE.id]
    add_full(found, [full, MACHINE], QUEUES, lambda _: None)
    assert [room.instance for room in found["gpu"]] == [MACHINE.id, "full"]


def for_gpus_alone(world: Snapshot) -> Snapshot:
    """Without what may want a machine that has no GPU left."""
    return replace(
        world,
        tasks=tuple(t for t in world.tasks if t.need.at_least and t.instances == 1 and not t.gang),
        resources=tuple(replace(r, min_instances=0) for r in world.resources),
        queues=tuple(replace(q, headroom=0) for q in world.queues),
        holds=(),
    )


@worlds
@given(snapshots())
def test_a_plan_is_the_same_whether_full_machines_are_looked_at_or_not(world: Snapshot) -> None:
    world = for_gpus_alone(world)
    made = plan.plan(world)
    with patch.object(plan, "is_for_gpus", lambda _: False):
        assert plan.plan(world) == made
