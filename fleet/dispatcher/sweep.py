"""No task is lost (P3): what a machine took with it, and what was claimed by somebody who died, goes back to its queue."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet.dispatcher.parts import Parts, Policy
from fleet.errors import ServerRefused
from fleet.model import Event, Reason, Run, RunResult
from fleet.planner.windows import BUDGET_ORDERS
from fleet.queues.base import TaskState, TaskStatus

log = logging.getLogger(__name__)

# A claim takes milliseconds, an agent that starts a few seconds more; a server with leases is quicker than this.
LOST_AFTER = timedelta(seconds=60)
# Runs of machines that went longer ago than this were settled by an earlier sweep.
SWEEP_BACK = timedelta(days=2)
ENDED = {
    TaskStatus.COMPLETED: RunResult.COMPLETED,
    TaskStatus.PUBLISHED: RunResult.COMPLETED,
    TaskStatus.PUBLISHING: RunResult.COMPLETED,
    TaskStatus.CLOSED: RunResult.COMPLETED,
    TaskStatus.FAILED: RunResult.FAILED,
    TaskStatus.CREATED: RunResult.STOPPED,  # reset by its user
}


@dataclass(slots=True)
class Sweeper:
    """Sweeps, and remembers since when a task has been in no queue: one that was claimed a moment ago looks the same."""

    parts: Parts
    policy: Policy
    lost_since: dict[str, datetime] = field(default_factory=dict)

    def sweep(self) -> None:
        """Put back every task that nobody works on any more.

        Raises:
            ServerError: the ClearML server does not answer; the next sweep finds the same tasks.
        """
        at = self.parts.now()
        _put_back_runs_of_the_gone(self.parts, self.policy, at - SWEEP_BACK)
        # Asked before what is held, so that a task that is claimed meanwhile is held when that is looked at.
        lost = {s.id: s for s in self.parts.demand.lost(self.policy.queues)}
        instances = self.parts.store.instances(self.policy.cluster) if lost else ()
        for held in [a.task for i in instances for a in i.allocations]:
            lost.pop(held, None)
        self.lost_since = {task: self.lost_since.get(task, at) for task in lost}
        for task, since in self.lost_since.items():
            if at - since >= LOST_AFTER and (queue := _queue_name(lost[task], self.parts, self.policy)):
                why = "it was claimed, but never started"
                self.parts.demand.put_back(task, queue, why)
                tell(self.parts, task, queue, Reason(code="lost_claim", text=why))


def _put_back_runs_of_the_gone(parts: Parts, policy: Policy, gone_since: datetime) -> None:
    open_runs = [r for r in parts.store.runs(ended_after=parts.now()) if r.ended_at is None]
    there = {i.id for i in parts.store.instances(policy.cluster)} if open_runs else frozenset()
    open_runs = [r for r in open_runs if r.instance not in there]
    if not open_runs:  # nearly always: the many that are gone need not be read
        return
    gone = {i.id: i for i in parts.store.instances(policy.cluster, gone_after=gone_since) if i.gone_at}
    open_runs = [r for r in open_runs if r.instance in gone]
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
    if state.status in ENDED:
        return ENDED[state.status]
    if state.last_worker and state.last_worker != run.worker and state.status is TaskStatus.IN_PROGRESS:
        return RunResult.REQUEUED  # it runs elsewhere already
    runs = parts.store.runs(task=run.task)
    attempts = sum(1 for r in runs if (r == run or _has_lost_its_machine(r)) and not _is_stopped_by_budget(r, parts))
    reason = Reason(code="machine_lost", text=f"instance {run.instance} is gone ({why}); attempt {attempts}")
    if attempts >= policy.max_attempts and state.status is not TaskStatus.STOPPED:
        return _give_up(run, attempts, why, reason, parts)
    # Its machine is gone, so nobody reports for this worker: while the server thinks that it lives, it holds the task back.
    parts.demand.unregister(run.worker)
    try:
        # Also when it is *stopped*: by its user, then this leaves it alone; or by us, half-way back to its queue.
        parts.demand.put_back(run.task, run.queue, reason.text)
    except ServerRefused as error:
        log.error("task not put back", extra={"task": run.task, "queue": run.queue, "error": str(error)})
        return RunResult.STOPPED
    now = parts.demand.states([run.task]).get(run.task)
    if now is None or now.status in (TaskStatus.STOPPED, TaskStatus.CREATED):
        return RunResult.STOPPED
    tell(parts, run.task, run.queue, reason)
    return RunResult.REQUEUED


def _has_lost_its_machine(run: Run) -> bool:
    """An attempt that was put back politely (a notice, an operator's order) ended with an exit code, and is no bad sign."""
    return run.result is RunResult.REQUEUED and run.exit_code is None


def _is_stopped_by_budget(run: Run, parts: Parts) -> bool:
    """The task has done nothing wrong: its money was spent."""
    instance = parts.store.instance(run.instance)
    reason = instance.end_reason if instance else None
    return reason is not None and reason.code in BUDGET_ORDERS


def _give_up(run: Run, attempts: int, why: str, reason: Reason, parts: Parts) -> RunResult:
    parts.demand.failed(run.task, f"given up after {attempts} machines were lost under it; the last: {why}")
    event = Event(at=parts.now(), kind="task.given_up", text=reason.text, task=run.task, queue=run.queue, reason=reason)
    parts.store.append_events([event])
    return RunResult.FAILED


def _queue_name(state: TaskState, parts: Parts, policy: Policy) -> str | None:
    ids = parts.demand.ensure_queues([q.name for q in policy.queues])
    return next((name for name, queue_id in ids.items() if queue_id == state.queue_id), None)


def tell(parts: Parts, task: str, queue: str, reason: Reason) -> None:
    """In the log and among the events: a task went back."""
    log.info("task put back", extra={"task": task, "queue": queue, "reason": reason.text})
    text = f"back at the head of queue {queue}: {reason.text}"
    parts.store.append_events(
        [Event(at=parts.now(), kind="task.requeued", text=text, task=task, queue=queue, reason=reason)]
    )
