"""PURE: a task of a supervisor that was killed, as the next one sees it."""

from __future__ import annotations

from datetime import datetime

from fleet.model import Reason, RunResult
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.jobs import Job
from fleet.supervisor.journal import Entry
from fleet.supervisor.stops import MAX_STARTS


def restored_job(entry: Entry, at: datetime) -> Job:
    """As far as it had come. `at`: now; what the server said before means nothing any more."""
    return Job(
        key=entry.key,
        task=entry.task,
        gpus=entry.gpus,
        worker=entry.worker,
        claimed_at=entry.claimed_at,
        is_ours=True,
        started_at=entry.started_at,
        announced_at=at if entry.announced_at else None,
        stop=entry.stop,
        exit_code=entry.exit_code,
        ended_at=entry.ended_at,
    )


def lost(entry: Entry) -> StopTask:
    """Its agent ended with its supervisor: it goes back, unless the same has happened too often under it."""
    deaths, task = entry.deaths + 1, entry.task
    text = "the supervisor of its machine was killed, and its processes with it"
    if deaths < MAX_STARTS:
        then = RunResult.REQUEUED
    else:
        then, text = RunResult.FAILED, f"{text}; for the {deaths}rd time" if deaths == MAX_STARTS else text
    reason = Reason(code="supervisor_lost", text=text, task=task.id, queue=task.queue)
    return StopTask(task=task.id, reason=reason, then=then)
