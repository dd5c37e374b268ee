"""The room on machines: what is found there once holds as long as the machine says nothing new."""

from dataclasses import replace

from fleet.planner import rooms
from fleet.planner.capacity import Wish
from fleet.planner.rooms import rooms_of
from tests.builders import a_queue, a_resource, an_instance

RESOURCES, QUEUES = (a_resource(),), (a_queue(),)
MACHINE = an_instance(gpus=2)


def test_what_one_plan_takes_of_a_machine_is_there_again_for_the_next() -> None:
    (first,) = rooms_of([MACHINE], RESOURCES, QUEUES, lambda _: None)["gpu"]
    assert first.take(Wish(2, None, None), QUEUES[0], 0)
    (second,) = rooms_of([MACHINE], RESOURCES, QUEUES, lambda _: None)["gpu"]
    assert (first.free_gpus, second.free_gpus) == (0, 2)


def test_a_machine_that_says_something_new_is_looked_at_again() -> None:
    rooms_of([MACHINE], RESOURCES, QUEUES, lambda _: None)
    smaller = replace(MACHINE, gpus=MACHINE.gpus[:1])
    (room,) = rooms_of([smaller], RESOURCES, QUEUES, lambda _: None)["gpu"]
    assert room.free_gpus == len(smaller.gpus)


def test_machines_that_are_gone_are_forgotten() -> None:
    many = [replace(MACHINE, id=f"i-{n}") for n in range(3 * rooms.SPARE)]
    rooms_of(many, RESOURCES, QUEUES, lambda _: None)
    rooms_of(many[:1], RESOURCES, QUEUES, lambda _: None)
    assert list(rooms._latest) == ["i-0"]
