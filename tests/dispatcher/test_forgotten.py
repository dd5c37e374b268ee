"""A task that its living machine does not know any more goes back to its queue, and no other does."""

from dataclasses import replace
from datetime import timedelta

from fleet.dispatcher.forgotten import FORGOTTEN_AFTER, is_left_with, unnamed
from fleet.model import Allocation, Instance, Run, RunResult
from fleet.queues.base import TaskState, TaskStatus
from tests.builders import T0
from tests.dispatcher.world import World

MARGIN_S = FORGOTTEN_AFTER.total_seconds()


def a_world_with_a_run() -> tuple[World, Instance, Run]:
    world = World()
    (task,) = world.enqueue("journalled badly")
    world.pass_once()
    instance = world.enroll(world.instance())
    return world, instance, world.run(instance, task)


def go_on(world: World, instance: Instance, seconds: float, **beat: object) -> None:
    """So long, with a heartbeat and a pass every ten seconds."""
    until = world.at + timedelta(seconds=seconds)
    while world.at < until:
        world.after(10)
        world.beat(instance, **beat)  # type: ignore[arg-type]
        world.pass_once()


def test_a_task_that_its_living_machine_does_not_name_for_the_fencing_margin_is_first_in_its_queue_again() -> None:
    world, instance, run = a_world_with_a_run()
    world.enqueue("later")
    go_on(world, instance, 60)
    go_on(world, instance, MARGIN_S - 70)
    assert world.server.states([run.task])[run.task].status is TaskStatus.IN_PROGRESS
    go_on(world, instance, 120)
    assert world.server.waiting(world.queues)[0].id == run.task
    (closed,) = world.store.runs(task=run.task)
    assert (closed.result, closed.ended_at is not None) == (RunResult.REQUEUED, True)
    (event,) = world.store.events(task=run.task, kind="task.requeued")
    assert event.reason is not None
    assert event.reason.code == "forgotten"
    go_on(world, instance, 300)
    assert len(world.store.events(task=run.task, kind="task.requeued")) == 1


def test_a_task_that_is_named_again_in_between_is_left_alone() -> None:
    world, instance, run = a_world_with_a_run()
    held = Allocation(task=run.task, queue="train", worker="w1", gpus=run.gpus, started_at=run.claimed_at)
    for _ in range(3):
        go_on(world, instance, MARGIN_S - 70)
        go_on(world, instance, 70, allocations=(held,))
    assert world.server.states([run.task])[run.task].status is TaskStatus.IN_PROGRESS


def test_a_machine_that_is_silent_has_forgotten_nothing() -> None:
    world, instance, run = a_world_with_a_run()
    go_on(world, instance, 20)
    silent = replace(world.instance(), heartbeat_at=world.at)
    assert unnamed([run], [silent], world.at) == (run,)
    assert unnamed([run], [silent], world.at + timedelta(seconds=61)) == ()


def test_a_task_whose_end_is_still_to_be_told_is_not_forgotten() -> None:
    world, _, run = a_world_with_a_run()
    speaks = replace(world.instance(), allocations=(), heartbeat_at=T0)
    assert unnamed([run], [speaks], T0) == (run,)
    assert unnamed([run], [replace(speaks, unsettled=(run.task,))], T0) == ()
    assert unnamed([run], [replace(speaks, goodbye_at=T0)], T0) == ()
    assert unnamed([replace(run, ended_at=T0)], [speaks], T0) == ()


def test_a_task_that_somebody_else_has_by_now_is_only_closed_in_the_ledger() -> None:
    world, instance, run = a_world_with_a_run()
    world.server.started(run.task, "another worker", "its user enqueued it again")
    go_on(world, instance, MARGIN_S + 120)
    assert world.server.states([run.task])[run.task].last_worker == "another worker"
    assert world.server.states([run.task])[run.task].status is TaskStatus.IN_PROGRESS
    (closed,) = world.store.runs(task=run.task)
    assert closed.result is RunResult.REQUEUED


def test_a_task_that_completed_meanwhile_is_completed_in_the_ledger_too() -> None:
    world, instance, run = a_world_with_a_run()
    world.server.completed(run.task, "its last words")
    go_on(world, instance, MARGIN_S + 120)
    (closed,) = world.store.runs(task=run.task)
    assert closed.result is RunResult.COMPLETED


def test_only_what_the_server_has_in_progress_on_that_worker_is_left_with_it() -> None:
    _, _, run = a_world_with_a_run()
    state = TaskState(
        id=run.task,
        name="x",
        status=TaskStatus.IN_PROGRESS,
        status_message="",
        queue_id=None,
        last_worker=run.worker,
        last_update=None,
    )
    assert is_left_with(run, state)
    assert not is_left_with(run, replace(state, last_worker="w9"))
    assert not is_left_with(run, replace(state, status=TaskStatus.QUEUED))
