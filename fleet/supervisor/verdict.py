"""PURE: what a task came to: what the ClearML server is told of it, and what the ledger keeps."""

from __future__ import annotations

from fleet.model import RunResult
from fleet.queues.base import OURS, TaskState, TaskStatus
from fleet.supervisor.instructions import StopTask


def verdict(exit_code: int | None, stop: StopTask | None, now: TaskState | None) -> RunResult | None:
    """What to tell the server of a task whose processes are gone; None: it needs no telling.

    `exit_code` None: its agent never started. `stop` None: it ended by itself. `now` None: the task was deleted.
    """
    if now is None or (stop and stop.then is None):
        return None
    if stop and exit_code is None:
        return stop.then if now.status in (TaskStatus.QUEUED, TaskStatus.IN_PROGRESS) else None
    if now.status is TaskStatus.STOPPED and now.status_reason.startswith(OURS):
        # It was on its way back already: our wish that it saves itself, at a server that thought that nobody would obey.
        return stop.then if stop else RunResult.REQUEUED
    if stop and stop.reason.code == "gpu_sick" and now.status is TaskStatus.FAILED:
        return stop.then  # said by the script as it died: it cannot know why
    if now.status not in (TaskStatus.IN_PROGRESS, TaskStatus.UNKNOWN):
        return None  # the script, or somebody else, has said it already
    if now.is_stop_asked and stop and stop.kill_at:
        return RunResult.STOPPED  # while it saved itself for us, its user asked for the end
    if stop:
        return stop.then
    if now.is_stop_asked:  # the script saw its user's wish before we did, and ended itself
        return RunResult.STOPPED
    return RunResult.COMPLETED if exit_code == 0 else RunResult.FAILED


def result(told: RunResult | None, now: TaskState | None) -> RunResult:
    """How an attempt ended, for the ledger: as we told the server, or as the server had it already."""
    if told:
        return told
    known = {
        TaskStatus.COMPLETED: RunResult.COMPLETED,
        TaskStatus.FAILED: RunResult.FAILED,
        TaskStatus.QUEUED: RunResult.REQUEUED,
        TaskStatus.IN_PROGRESS: RunResult.REQUEUED,  # elsewhere
    }
    return known.get(now.status, RunResult.STOPPED) if now else RunResult.STOPPED
