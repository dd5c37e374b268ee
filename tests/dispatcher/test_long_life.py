"""A dispatcher lives for years: what it holds must not follow from how many machines and tasks there were."""

from dataclasses import replace
from datetime import timedelta

from fleet.errors import NoCapacity
from fleet.model import Instance, RunResult
from tests.dispatcher.world import World
from tests.holding import grown, held

ROOMS = ("fleet.dispatcher", "fleet.planner", "fleet.schedule")
WARM, MANY = 30, 90
DAY_S = timedelta(days=1).total_seconds()
# By design, each with its own end: what was learned of the newest tasks and boots, strangers (`test_passes`), and some machines
# that are gone (`tests/planner/test_steady.py`).
HAS_ITS_OWN_END = {
    "fleet.dispatcher.learning.Learner.stays",
    "fleet.dispatcher.learning.Learner.boots_s",
    "fleet.dispatcher.reconcile.Reconciler.orphans",
    "fleet.planner.steady._steady",
}


def a_machine_lives(world: World, number: int) -> None:
    """For one task: some are refused at first, some never boot, some vanish, the others say goodbye."""
    (task,) = world.enqueue(f"task {number}")
    if number % 7 == 3:
        world.cloud.next_order_faults.append(NoCapacity("none"))
    booting = (i for _ in range(60) for i in world.after(20).pass_once().instances() if i.cloud_id)
    instance = next(booting)
    if number % 11 == 5:
        world.server.delete(task)
        until_gone(world, instance, 60)
        return
    instance = world.enroll(instance)
    run = world.run(instance, task)
    world.after(5).pass_once().server.completed(task, "done")
    ended = replace(run, ended_at=world.at, result=RunResult.COMPLETED)
    world.beat(instance, runs=(ended,), is_ending=True)
    if number % 5 == 0:
        world.cloud.end(f"fake-{instance.id}")
    until_gone(world, instance, 10)
    world.server.delete(task)


def until_gone(world: World, instance: Instance, every_s: float) -> None:
    for _ in range(200):
        if instance.id not in {each.id for each in world.after(every_s).pass_once().instances()}:
            return
    raise AssertionError(f"{instance.id} does not end")


def test_a_dispatcher_holds_no_more_after_a_hundred_machines_in_three_months_than_after_some() -> None:
    world = World()
    for number in range(WARM):
        a_machine_lives(world, number)
        world.after(DAY_S).pass_once()
    before = held(*ROOMS)
    for number in range(WARM, WARM + MANY):
        a_machine_lives(world, number)
        world.after(DAY_S).pass_once()
    after = held(*ROOMS)
    assert "fleet.dispatcher.history.History._past" in after, "it was looked into"
    assert {name: by for name, by in grown(before, after, by=3).items() if name not in HAS_ITS_OWN_END} == {}
