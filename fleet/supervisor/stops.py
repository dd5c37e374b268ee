"""PURE: which tasks end before they have come to their end, why, and what the server is then told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from fleet.model import Reason, RunResult
from fleet.queues.base import TaskStatus
from fleet.supervisor import under_notice, why
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.situation import Held, Policy, Sighting, State

# A task whose agent could not be started so often on this machine has failed.
MAX_STARTS = 3
# An abort callback may not hold a machine longer than this, as in the stock agent.
MAX_ABORT_CALLBACK = timedelta(seconds=1800)
# `created` and `failed` can be seen in passing, while a user resets or the SDK says its last words.
SIGHTINGS_NEEDED = {TaskStatus.CREATED: 2, TaskStatus.FAILED: 2}
# A task may use more than its share of a GPU's memory for so many looks in a row, two seconds apart: libraries take
# memory before they give other memory back.
OVERUSES_BORNE = 2
NOT_OURS = {
    TaskStatus.CREATED,
    TaskStatus.QUEUED,
    TaskStatus.STOPPED,
    TaskStatus.FAILED,
    TaskStatus.CLOSED,
    TaskStatus.PUBLISHED,
}


def to_stop(state: State, end: Reason | None, leaves: Reason | None, policy: Policy) -> list[StopTask]:
    """`end`: why this machine ends now. `leaves`: why the cloud's notice makes it leave. None: it does not."""
    by_notice = under_notice.kill_at(state.notice, policy.on_rebalance, state.at) if leaves else None
    by_drain = under_notice.kill_by(state.drain_by, state.at) if state.drain else None
    kill_at, reason = (by_notice, leaves) if by_notice else (by_drain, state.drain)
    stops = []
    for held in state.held:
        if held.is_stopping:
            continue
        stop = _stop_of(held, end, state.at, state.sick)
        is_leaving = held.sighting is None or not held.sighting.is_stop_asked  # else it ends as its user wants it
        if stop is None and kill_at and reason and is_leaving:  # with an `end` there is a stop already
            stop = StopTask(task=held.task.id, reason=reason, then=RunResult.REQUEUED, kill_at=kill_at)
        if stop:
            stops.append(stop)
    return stops


def _stop_of(held: Held, end: Reason | None, at: datetime, sick: Mapping[str, str]) -> StopTask | None:
    task = held.task.id
    if held.start_error is not None:
        then = RunResult.FAILED if held.starts_failed >= MAX_STARTS else RunResult.REQUEUED
        return StopTask(task=task, reason=Reason(code="start_failed", text=held.start_error, task=task), then=then)
    if end:
        return StopTask(task=task, reason=end, then=RunResult.REQUEUED)
    if held.sighting and (stop := _stop_by_sighting(task, held.sighting, at)):
        return stop
    if cause := next((sick[gpu] for gpu in held.gpus if gpu in sick), None):
        return StopTask(task=task, reason=why.gpu_sick(held.task, cause), then=RunResult.REQUEUED)
    if held.overuse and held.overuse.times > OVERUSES_BORNE:
        used, allowed = held.overuse.used_gib, held.overuse.allowed_gib
        reason = why.too_much_memory(held.task, used_gib=used, allowed_gib=allowed)
        return StopTask(task=task, reason=reason, then=RunResult.FAILED)
    return None


def _stop_by_sighting(task: str, seen: Sighting, at: datetime) -> StopTask | None:
    def stop(code: str, text: str, then: RunResult | None) -> StopTask:
        return StopTask(task=task, reason=Reason(code=code, text=text, task=task), then=then)

    if seen.status is None:
        return stop("deleted", "the task was deleted while it ran", None)
    if seen.is_elsewhere:
        return stop("elsewhere", "another worker runs this task now", None)
    if seen.is_stop_asked:
        is_waiting = seen.abort_callback_s > 0 and not seen.is_abort_callback_done
        if is_waiting and at < abort_deadline(seen, at):
            return None
        return stop("user_stopped", "its user asked for the end", RunResult.STOPPED)
    if seen.status in NOT_OURS and seen.times >= SIGHTINGS_NEEDED.get(seen.status, 1):
        return stop("status_changed", f"its status was changed to {seen.status} while it ran", None)
    return None


def abort_deadline(seen: Sighting, at: datetime) -> datetime:
    callback = min(timedelta(seconds=seen.abort_callback_s), MAX_ABORT_CALLBACK)
    return (seen.stop_asked_at or at) + callback
