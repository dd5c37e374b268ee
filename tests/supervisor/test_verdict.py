"""What a task came to, as the server is told of it and as the ledger keeps it."""

from dataclasses import replace
from datetime import UTC, datetime

from fleet.model import Reason, RunResult
from fleet.queues.base import OURS, TaskState, TaskStatus
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.verdict import result, verdict

WHY = Reason(code="operator", text="an operator said so")


def now_is(status: TaskStatus, message: str = "") -> TaskState:
    return TaskState(
        id="a", name="a", status=status, status_message=message, queue_id=None, last_worker=None, last_update=None
    )


RUNS = now_is(TaskStatus.IN_PROGRESS)
BACK = StopTask(task="a", reason=WHY, then=RunResult.REQUEUED)
SILENT = StopTask(task="a", reason=WHY, then=None)


def test_a_task_that_ended_by_itself_is_judged_by_its_exit_code():
    assert verdict(0, None, RUNS) is RunResult.COMPLETED
    assert verdict(3, None, RUNS) is RunResult.FAILED
    assert verdict(-9, None, RUNS) is RunResult.FAILED


def test_a_script_that_ended_itself_because_its_user_asked_is_stopped():
    assert verdict(1, None, now_is(TaskStatus.IN_PROGRESS, "stopping")) is RunResult.STOPPED


def test_what_the_script_said_itself_stands():
    for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.STOPPED, TaskStatus.PUBLISHED):
        assert verdict(1, None, now_is(status)) is None
    assert result(None, now_is(TaskStatus.COMPLETED)) is RunResult.COMPLETED
    assert result(None, now_is(TaskStatus.FAILED)) is RunResult.FAILED
    assert result(None, now_is(TaskStatus.CLOSED)) is RunResult.STOPPED


def test_a_task_that_was_taken_from_us_is_not_touched():
    assert verdict(-15, SILENT, RUNS) is None
    assert verdict(-15, BACK, now_is(TaskStatus.QUEUED)) is None
    assert verdict(-15, BACK, now_is(TaskStatus.STOPPED)) is None
    assert verdict(-15, BACK, None) is None
    assert (result(None, now_is(TaskStatus.QUEUED)), result(None, None)) == (RunResult.REQUEUED, RunResult.STOPPED)


def test_a_stopped_task_is_told_as_decided():
    assert verdict(-15, BACK, RUNS) is RunResult.REQUEUED
    assert verdict(0, replace(BACK, then=RunResult.STOPPED), RUNS) is RunResult.STOPPED


def test_a_task_that_never_started_goes_back_though_it_is_only_queued():
    assert verdict(None, BACK, now_is(TaskStatus.QUEUED)) is RunResult.REQUEUED
    assert verdict(None, BACK, now_is(TaskStatus.STOPPED)) is None


# --- under a notice

SAVES = replace(BACK, kill_at=datetime(2026, 1, 1, tzinfo=UTC))
ASKED_BY_US = replace(now_is(TaskStatus.IN_PROGRESS, "stopping"), status_reason=f"{OURS}: preempted")


def test_a_task_that_we_asked_to_save_itself_is_never_completed_by_its_exit_code():
    for exit_code in (0, 1, -15):
        assert verdict(exit_code, SAVES, RUNS) is RunResult.REQUEUED
        assert verdict(exit_code, SAVES, ASKED_BY_US) is RunResult.REQUEUED
    stopped = replace(ASKED_BY_US, status=TaskStatus.STOPPED)  # a server that thought that nobody would obey
    assert verdict(0, SAVES, stopped) is RunResult.REQUEUED


def test_a_task_that_calls_itself_completed_under_a_notice_is():
    done = now_is(TaskStatus.COMPLETED)
    assert verdict(0, SAVES, done) is None
    assert result(None, done) is RunResult.COMPLETED


def test_a_task_that_its_user_stops_while_it_saves_itself_is_stopped():
    assert verdict(0, SAVES, now_is(TaskStatus.IN_PROGRESS, "stopping")) is RunResult.STOPPED


def test_a_task_of_a_sick_gpu_goes_back_whatever_its_script_said_as_it_died():
    sick = StopTask(task="a", reason=Reason(code="gpu_sick", text="Xid 79"), then=RunResult.REQUEUED)
    assert verdict(1, sick, now_is(TaskStatus.FAILED)) is RunResult.REQUEUED
    assert verdict(1, sick, RUNS) is RunResult.REQUEUED
    assert verdict(1, sick, now_is(TaskStatus.STOPPED)) is None  # its user was quicker
    assert verdict(1, BACK, now_is(TaskStatus.FAILED)) is None
