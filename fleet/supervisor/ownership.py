"""PURE: whether a task is still this machine's to speak for, after a time in which nobody here looked after it."""

from __future__ import annotations

from datetime import datetime, timedelta

from fleet.queues.base import TaskState, TaskStatus

PULLED_BY = "pulled by "  # what a supervisor writes when it starts a task (`Claims.started`)
# A task that was claimed and never started is given to others after 45 s by the embedded server (its lease), after 60 s by the
# dispatcher (dispatcher.sweep.LOST_AFTER). Until then it can only be ours.
CLAIM_HOLDS_FOR = timedelta(seconds=40)


def is_pulled_by_another(now: TaskState, worker: str) -> bool:
    """Whether another supervisor was the last to start it."""
    return now.status_message.startswith(PULLED_BY) and now.status_message != PULLED_BY + worker


def may_be_started(now: TaskState | None, worker: str) -> bool:
    """Whether the server may be told that it is in progress here: it was claimed by us, which may be minutes ago. Its agent may
    have said it already."""
    if now is None:
        return False
    return now.status in (TaskStatus.QUEUED, TaskStatus.UNKNOWN) or (
        now.status is TaskStatus.IN_PROGRESS and not is_pulled_by_another(now, worker)
    )


def is_still_ours(now: TaskState | None, worker: str, claimed_at: datetime, is_announced: bool, at: datetime) -> bool:
    """`worker`: the name that our attempt had. `is_announced`: the server knew that it ran here. `now`: as the server has it."""
    if now is None:
        return False
    if now.status is TaskStatus.QUEUED:
        return not is_announced and at - claimed_at < CLAIM_HOLDS_FOR
    if now.status_message.startswith(PULLED_BY):
        return now.status_message == PULLED_BY + worker
    return now.last_worker in (None, worker)
