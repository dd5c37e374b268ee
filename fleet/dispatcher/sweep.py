"""No task is lost (P3): what a machine took with it, and what was claimed by somebody who died, goes back to its queue."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime

from fleet.dispatcher.parts import Parts, Policy
from fleet.errors import ServerRefused
from fleet.model import Event, Reason, Run, RunResult
from fleet.queues.base import TaskState, TaskStatus

log = logging.getLogger(__name__)


def sweep(parts: Parts, policy: Policy, gone_since: datetime) -> None:
    """Put back every task that nobody works on any more.

    Raises:
        ServerError: the ClearML server does not answer; the next sweep finds the same tasks.
    """
    _put_back_runs_of_the_gone(parts, policy, gone_since)
    held = {a.task for i in parts.store.instances(policy.cluster) for a in i.allocations}
    for state in parts.demand.lost(policy.queues):
        # An allocation may be seen before its task is: the supervisor holds it, so it is not lost.
        if state.id not in held:
            queue = _queue_name(state, parts, policy)
            if queue:
                why = "it was claimed, but never started"
                parts.demand.put_back(state.id, queue, why)
                _tell(parts, state.id, queue, Reason(code="lost_claim", text=why))


def _put_back_runs_of_the_gone(parts: Parts, policy: Policy, gone_since: datetime) -> None:
    gone = {i.id: i for i in parts.store.instances(policy.cluster, gone_after=gone_since) if i.gone_at}
    open_runs = [r for r in parts.store.runs(ended_after=parts.now()) if r.ended_at is None and r.instance in gone]
    if not open_runs:
        return
    states = parts.demand.states([r.task for r in open_runs])
    for run in open_runs:
        instance = gone[run.instance]
        why = str(instance.end_reason or "its machine is gone")
        result = _settle(run, states.get(run.task), why, parts, policy)
        at = instance.gone_at or parts.now()
        parts.store.close_run(replace(run, ended_at=at, result=result))


def _settle(run: Run, state: TaskState | None, why: str, parts: Parts, policy: Policy) -> RunResult:
    """Bring the task of a lost machine to where it belongs, and say what became of this attempt."""
    if state is None:
        return RunResult.STOPPED  # deleted by its user
    ended = {
        TaskStatus.COMPLETED: RunResult.COMPLETED,
        TaskStatus.PUBLISHED: RunResult.COMPLETED,
        TaskStatus.CLOSED: RunResult.COMPLETED,
        TaskStatus.FAILED: RunResult.FAILED,
        TaskStatus.STOPPED: RunResult.STOPPED,
        TaskStatus.CREATED: RunResult.STOPPED,
    }
    if state.status in ended:
        return ended[state.status]
    if state.last_worker and state.last_worker != run.worker and state.status is TaskStatus.IN_PROGRESS:
        return RunResult.REQUEUED  # it runs elsewhere already
    attempts = Counter(r.result for r in parts.store.runs(task=run.task))[RunResult.REQUEUED] + 1
    reason = Reason(code="machine_lost", text=f"instance {run.instance} is gone ({why}); attempt {attempts}")
    if attempts >= policy.max_attempts:
        parts.demand.failed(run.task, f"given up after {attempts} machines were lost under it; the last: {why}")
        parts.store.append_events(
            [Event(at=parts.now(), kind="task.given_up", text=reason.text, task=run.task, reason=reason)]
        )
        return RunResult.FAILED
    try:
        # Its machine is gone, so nobody reports for this worker: while the server thinks that it lives, it holds the task back.
        parts.demand.unregister(run.worker)
        parts.demand.put_back(run.task, run.queue, reason.text)
    except ServerRefused as error:
        log.error("task not put back", extra={"task": run.task, "queue": run.queue, "error": str(error)})
        return RunResult.STOPPED
    _tell(parts, run.task, run.queue, reason)
    return RunResult.REQUEUED


def _queue_name(state: TaskState, parts: Parts, policy: Policy) -> str | None:
    ids = parts.demand.ensure_queues([q.name for q in policy.queues])
    return next((name for name, queue_id in ids.items() if queue_id == state.queue_id), None)


def _tell(parts: Parts, task: str, queue: str, reason: Reason) -> None:
    log.info("task put back", extra={"task": task, "queue": queue, "reason": reason.text})
    text = f"back at the head of queue {queue}: {reason.text}"
    parts.store.append_events(
        [Event(at=parts.now(), kind="task.requeued", text=text, task=task, queue=queue, reason=reason)]
    )
