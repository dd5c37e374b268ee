"""Which tasks a supervisor ends, and what the server is then told."""

from dataclasses import replace

import pytest

from fleet.model import RunResult
from fleet.queues.base import TaskStatus
from fleet.supervisor.decide import decide, next_deadline
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.situation import Held, Overuse, Sighting, State
from tests.supervisor.situations import GPUS, POLICY, T0, a_part, a_state, at, held


def seen(status: TaskStatus | None, times: int = 1, **more) -> tuple[Held, ...]:
    return (held("a", 0, sighting=Sighting(status=status, times=times, **more)),)


def stops(state: State) -> list[tuple[str, RunResult | None]]:
    return [(i.reason.code, i.then) for i in decide(state, POLICY) if isinstance(i, StopTask)]


def test_a_task_that_uses_more_memory_than_its_share_for_longer_than_a_moment_fails() -> None:
    def seen(times: int) -> State:
        over = Overuse(used_gib=20.04, allowed_gib=12, times=times)
        return a_state(held=(a_part("x", 0.5, 0, overuse=over),))

    assert decide(seen(2), POLICY) == ()
    (stop,) = decide(seen(3), POLICY)
    assert isinstance(stop, StopTask)
    assert (stop.task, stop.then, stop.reason.code) == ("x", RunResult.FAILED, "gpu_memory_exceeded")
    assert stop.reason.text.startswith("it uses 20.0 GiB of GPU memory; its share of the GPU, 0.5, is 12.0 GiB")


def test_a_task_that_holds_a_sick_gpu_goes_back_and_is_not_counted_as_one_that_failed_to_start() -> None:
    world = a_state(held=(held("a", 0), held("b", 1, 2)), gpus=(GPUS[0], GPUS[1], GPUS[3]), sick={"g2": "Xid 79"})
    (stop,) = decide(world, POLICY)
    assert isinstance(stop, StopTask)
    assert (stop.task, stop.then, stop.reason.code) == ("b", RunResult.REQUEUED, "gpu_sick")
    assert stop.reason.text == "a GPU that it holds is sick: Xid 79"
    stopping = world._replace(held=(held("a", 0), held("b", 1, 2, is_stopping=True)))
    assert decide(stopping, POLICY) == ()


def test_what_its_user_wants_of_a_task_comes_before_what_its_gpu_wants() -> None:
    seen = Sighting(status=TaskStatus.IN_PROGRESS, times=1, is_stop_asked=True, stop_asked_at=T0)
    (stop,) = decide(a_state(held=(held("a", 0, sighting=seen),), sick={"g0": "Xid 79"}), POLICY)
    assert isinstance(stop, StopTask)
    assert stop.reason.code == "user_stopped"


def test_a_task_is_stopped_when_its_user_asks():
    state = a_state(held=seen(TaskStatus.IN_PROGRESS, is_stop_asked=True, stop_asked_at=at(9)))
    assert stops(state) == [("user_stopped", RunResult.STOPPED)]


def test_its_abort_callback_has_the_time_that_it_asked_for():
    asked = {"is_stop_asked": True, "stop_asked_at": at(9), "abort_callback_s": 30.0}
    state = a_state(held=seen(TaskStatus.IN_PROGRESS, **asked))
    assert stops(state) == []
    assert next_deadline(state, POLICY) == at(39)
    assert stops(state._replace(at=at(39), server_seen_at=at(39))) == [("user_stopped", RunResult.STOPPED)]
    done = seen(TaskStatus.IN_PROGRESS, **asked, is_abort_callback_done=True)
    assert stops(state._replace(held=done)) == [("user_stopped", RunResult.STOPPED)]


@pytest.mark.parametrize("status", [TaskStatus.STOPPED, TaskStatus.CLOSED, TaskStatus.PUBLISHED, TaskStatus.QUEUED])
def test_a_task_whose_status_was_changed_is_ended_without_a_word(status: TaskStatus):
    assert stops(a_state(held=seen(status))) == [("status_changed", None)]


@pytest.mark.parametrize("status", [TaskStatus.CREATED, TaskStatus.FAILED])
def test_a_reset_or_failed_task_is_ended_when_it_is_seen_so_twice(status: TaskStatus):
    assert stops(a_state(held=seen(status))) == []
    assert stops(a_state(held=seen(status, times=2))) == [("status_changed", None)]


def test_a_deleted_task_and_one_that_runs_elsewhere_are_ended():
    assert stops(a_state(held=seen(None))) == [("deleted", None)]
    assert stops(a_state(held=seen(TaskStatus.IN_PROGRESS, is_elsewhere=True))) == [("elsewhere", None)]


def test_a_completed_task_may_finish_what_it_does():
    assert stops(a_state(held=seen(TaskStatus.COMPLETED, times=99))) == []


def test_a_task_is_stopped_once():
    gone = (replace(seen(None)[0], is_stopping=True),)
    assert stops(a_state(held=gone)) == []


def test_a_task_whose_agent_does_not_start_goes_back_and_fails_the_third_time():
    def after(times: int) -> list[tuple[str, RunResult | None]]:
        return stops(a_state(held=(held("a", 0, start_error="no disk", starts_failed=times),)))

    assert after(1) == after(2) == [("start_failed", RunResult.REQUEUED)]
    assert after(3) == [("start_failed", RunResult.FAILED)]
