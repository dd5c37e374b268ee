"""No task is lost (P3), also by a machine that lives: runs that the ledger shows on it and that it does not know any more.

A supervisor that was killed is followed by one that reads what was held from a journal. What cannot be read there is unknown to it: its
processes are ended, and the task would stay *in progress* as long as the machine lives. Each heartbeat names all that a machine
holds or has still to settle, so what it does not name for long, while it speaks, is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet.dispatcher.parts import Parts, Policy
from fleet.dispatcher.sweep import ENDED, tell
from fleet.errors import ServerRefused
from fleet.model import Instance, Reason, Run, RunResult
from fleet.queues.base import TaskState, TaskStatus

log = logging.getLogger(__name__)

# The fencing margin, as of a machine that is silent (planner.reaper.CONTACT_LOST_AFTER): a supervisor that was cut off has ended
# its tasks by then, and the next one what it found of them.
FORGOTTEN_AFTER = timedelta(seconds=180)
# A machine that was silent so long may hold what it has not been able to say.
SPEAKS_WITHIN = timedelta(seconds=60)
LOOK_EVERY = timedelta(seconds=60)

Attempt = tuple[str, str, datetime]  # task, instance, claimed at


@dataclass(slots=True)
class Forgotten:
    """Sweeps, and remembers since when a machine has not named what the ledger shows on it."""

    parts: Parts
    policy: Policy
    unnamed_since: dict[Attempt, datetime] = field(default_factory=dict)
    looked_at: datetime | None = None

    def sweep(self) -> None:
        """Close every run that its living machine has forgotten, and put its task back.

        Raises:
            ServerError: the ClearML server does not answer; the next sweep finds the same runs.
        """
        at = self.parts.now()
        if self.looked_at and at - self.looked_at < LOOK_EVERY:
            return
        self.looked_at = at
        instances = self.parts.store.instances(self.policy.cluster)
        open_runs = self.parts.store.runs(ended_after=at)
        found = unnamed(open_runs, instances, at)
        self.unnamed_since = {attempt_of(run): self.unnamed_since.get(attempt_of(run), at) for run in found}
        due = [run for run in found if at - self.unnamed_since[attempt_of(run)] >= FORGOTTEN_AFTER]
        if not due:
            return
        states = self.parts.demand.states([run.task for run in due])
        for run in due:
            result = self._settle(run, states.get(run.task), _workers(instances))
            self.parts.store.close_run(replace(run, ended_at=at, result=result))

    def _settle(self, run: Run, state: TaskState | None, workers: Collection[str]) -> RunResult:
        """Put its task back if the server still counts on that machine; what became of this attempt."""
        if state is None:
            return RunResult.STOPPED  # deleted by its user
        if state.status in ENDED:
            return ENDED[state.status]
        if not is_left_with(run, state):
            return RunResult.STOPPED if state.status is TaskStatus.STOPPED else RunResult.REQUEUED
        text = f"instance {run.instance} has not named it for {FORGOTTEN_AFTER.seconds} s: it has forgotten it"
        if run.worker not in workers:  # else another task has its GPUs now, under the same name
            self.parts.demand.unregister(run.worker)
        try:
            self.parts.demand.put_back(run.task, run.queue, text)
        except ServerRefused as error:
            log.error("task not put back", extra={"task": run.task, "queue": run.queue, "error": str(error)})
            return RunResult.STOPPED
        tell(self.parts, run.task, run.queue, Reason(code="forgotten", text=text))
        return RunResult.REQUEUED


def unnamed(runs: Sequence[Run], instances: Sequence[Instance], at: datetime) -> tuple[Run, ...]:
    """PURE: open runs on machines that speak and do not name their task, neither as held nor as still to be settled."""
    there = {i.id: i for i in instances}
    return tuple([r for r in runs if r.ended_at is None and (i := there.get(r.instance)) and _is_silent_of(i, r, at)])


def is_left_with(run: Run, state: TaskState) -> bool:
    """PURE: whether the server has the task in progress on the worker of this run, or half-way back to its queue."""
    return state.status in (TaskStatus.IN_PROGRESS, TaskStatus.STOPPED) and state.last_worker == run.worker


def attempt_of(run: Run) -> Attempt:
    return run.task, run.instance, run.claimed_at


def _is_silent_of(instance: Instance, run: Run, at: datetime) -> bool:
    """It speaks, and not of this one."""
    heard = instance.heartbeat_at
    if run.task in [a.task for a in instance.allocations] or run.task in instance.unsettled:
        return False
    return heard is not None and instance.goodbye_at is None and at - heard < SPEAKS_WITHIN


def _workers(instances: Sequence[Instance]) -> frozenset[str]:
    """Under which tasks run now."""
    return frozenset(allocation.worker for instance in instances for allocation in instance.allocations)
