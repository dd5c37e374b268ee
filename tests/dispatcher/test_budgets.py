"""What a dispatcher does with money, pass by pass."""

from datetime import timedelta

import pytest

from fleet.model import Budget, InstanceState, Reason, RunResult, WhenSpent
from fleet.planner.windows import BUDGET_STOP, STOP_GRACE
from fleet.queues.base import TaskStatus
from tests.builders import a_resource
from tests.dispatcher.world import World

STOPPED = Reason(code=BUDGET_STOP, text="the money is spent")


def a_busy_world(**budget: object) -> tuple[World, str]:
    """One machine of $2 an hour, which runs one task."""
    world = World(budget=Budget(**budget))  # type: ignore[arg-type]
    (task,) = world.enqueue("one")
    world.pass_once().after(60)
    world.run(world.enroll(world.instance()), task)
    return world, task


def test_a_stop_leaves_the_edge_the_time_to_put_its_tasks_back() -> None:
    world, _ = a_busy_world(usd_per_day=4, when_spent=WhenSpent.STOP)
    spent_at = 2 * 3600 - 128 - 60
    world.after(spent_at - 10)
    world.beat(world.instance(), allocations=world.instance().allocations)
    assert world.pass_once().instance().state is InstanceState.DRAINING
    world.after(10).pass_once()
    assert world.instance().state is InstanceState.TERMINATING
    (machine,) = world.cloud.machines.values()
    world.after(STOP_GRACE.total_seconds() - 1).pass_once()
    assert machine.ended_at is None
    world.after(1).pass_once()
    assert machine.ended_at == world.at


def test_a_restart_forgets_no_dollar() -> None:
    world, task = a_busy_world(usd_per_day=4, when_spent=WhenSpent.STOP)
    world.after(3600)
    world.server.completed(task, "done")
    world.cloud.end("fake-" + world.instance().id)
    world.pass_once()
    assert world.instances() == ()
    world.restart()
    world.enqueue("two")
    snapshot, _ = world.dispatcher.observe()
    (spent,) = snapshot.spent_today
    assert (spent.queue, spent.usd) == ("train", pytest.approx(2 * 3660 / 3600))
    assert snapshot.spent_this_month == (), "nobody asks for it"


def test_machines_that_a_budget_took_are_no_failed_attempts_of_the_task() -> None:
    world = World(resources=(a_resource(boot_timeout=timedelta(hours=1)),))
    (task,) = world.enqueue("long")
    for _ in range(4):
        world.after(20).pass_once()
        instance = world.enroll(world.instance())
        world.run(instance, task)
        world.store.request_terminate(instance.id, STOPPED, world.at)
        world.cloud.end("fake-" + instance.id)
        world.after(20).pass_once()
    assert world.server.states([task])[task].status is TaskStatus.QUEUED
    assert {run.result for run in world.store.runs(task=task)} == {RunResult.REQUEUED}
    assert "task.given_up" not in world.kinds()


def test_a_drain_that_is_taken_back_is_told() -> None:
    world, _ = a_busy_world()
    instance = world.instance()
    world.store.request_drain(instance.id, Reason(code="budget_drain", text="the cap was lowered"), world.at)
    world.pass_once()
    assert world.instance().drain_requested_at is None
    assert world.kinds()[-1] == "instance.drain_cancelled"
