"""A task on this machine, from the claim until its GPUs are free again, as the main thread keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.model import Allocation, Gpu, Run, RunResult, Task
from fleet.queues.base import TaskState, TaskStatus
from fleet.supervisor.agents import Agent
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.ownership import is_pulled_by_another
from fleet.supervisor.situation import Held, Overuse, Sighting

# How often in a row another worker must be seen on a task before ours gives way: one report may come late.
ELSEWHERE_SIGHTINGS = 2


@dataclass(slots=True, kw_only=True)
class Job:
    """Changed by the main thread alone. The times tell how far it has come."""

    key: str
    task: Task
    gpus: tuple[Gpu, ...]
    worker: str
    claimed_at: datetime  # asked for; ours once `is_ours`
    is_ours: bool = False
    agent: Agent | None = None
    started_at: datetime | None = None  # the agent process exists
    announced_at: datetime | None = None  # the server knows
    stop: StopTask | None = None
    start_error: str | None = None
    starts_failed: int = 0
    term_at: datetime | None = None  # its abort callback was asked for; then SIGTERM
    kill_at: datetime | None = None  # its grace is over
    cut_at: datetime | None = None  # its console should have ended
    exit_code: int | None = None
    why: str | None = None  # of its end, where the exit code does not say it
    is_silent: bool = False  # its console has ended
    ended_at: datetime | None = None
    sighting: Sighting | None = None
    elsewhere: tuple[str, int] | None = None  # another worker that reports it, and how often in a row
    overuse: Overuse | None = None  # of its share of a GPU's memory, now

    @property
    def held(self) -> Held:
        return Held(
            task=self.task,
            gpus=tuple(gpu.uuid for gpu in self.gpus),
            is_stopping=self.stop is not None,
            start_error=self.start_error,
            starts_failed=self.starts_failed,
            sighting=self.sighting,
            overuse=self.overuse,
        )

    @property
    def allocation(self) -> Allocation:
        return Allocation(
            task=self.task.id,
            queue=self.task.queue,
            worker=self.worker,
            gpus=tuple(gpu.uuid for gpu in self.gpus),
            started_at=self.claimed_at,
            share=self.task.need.share,
            user=self.task.user,
            gang=self.task.gang,
        )

    @property
    def is_running(self) -> bool:
        return self.agent is not None and self.exit_code is None

    @property
    def is_elsewhere(self) -> bool:
        """Whether another runs it, of whom nothing may be taken by what we report."""
        return self.sighting is not None and self.sighting.is_elsewhere

    @property
    def has_abort_callback(self) -> bool:
        """Whether its script wants to be asked, and has not been."""
        seen = self.sighting
        return seen is not None and seen.abort_callback_s > 0 and not seen.is_abort_callback_done

    @property
    def has_saved_itself(self) -> bool:
        """Its abort callback has run."""
        return self.sighting is not None and self.sighting.is_abort_callback_done

    @property
    def has_share(self) -> bool:
        """Whether it runs on a part of a GPU, which others use too."""
        return self.is_running and self.task.need.share is not None

    def run(self, instance: str, result: RunResult | None = None) -> Run:
        """This attempt, for the ledger. It counts as running until its result is known."""
        return Run(
            task=self.task.id,
            name=self.task.name,
            instance=instance,
            queue=self.task.queue,
            worker=self.worker,
            gpus=tuple(gpu.uuid for gpu in self.gpus),
            enqueued_at=self.task.enqueued_at,
            claimed_at=self.claimed_at,
            started_at=self.started_at,
            ended_at=self.ended_at if result else None,
            result=result,
            exit_code=self.exit_code if result else None,
        )

    def see(self, state: TaskState | None, asked_at: datetime, now: datetime) -> None:
        """Take note of what the server said of it. What was asked before the server knew that it started means nothing."""
        if self.announced_at is None or asked_at < self.announced_at:
            return
        status = state.status if state else None
        last = self.sighting
        seen = Sighting(status=status, times=last.times + 1 if last and last.status is status else 1)
        if state:
            seen = replace(
                seen,
                abort_callback_s=state.abort_callback_timeout_s,
                is_abort_callback_done=state.is_abort_callback_done,
                is_elsewhere=self._is_elsewhere(state),
            )
            if status is TaskStatus.IN_PROGRESS and state.is_stop_asked:
                asked = last.stop_asked_at if last and last.stop_asked_at else now
                seen = replace(seen, is_stop_asked=True, stop_asked_at=asked)
        self.sighting = seen

    def _is_elsewhere(self, state: TaskState) -> bool:
        """Somebody re-queued it and another took it between two looks: in progress again, but not by us."""
        if state.status is TaskStatus.IN_PROGRESS and is_pulled_by_another(state, self.worker):
            return True
        other = state.last_worker
        if state.status is not TaskStatus.IN_PROGRESS or other in (None, self.worker):
            # Only after our own name was seen there: before, it may be the name of an earlier attempt.
            self.elsewhere = ("", 0) if other == self.worker else self.elsewhere
            return False
        if self.elsewhere is None:
            return False
        known, times = self.elsewhere
        self.elsewhere = (str(other), times + 1 if known == other else 1)
        return self.elsewhere[1] >= ELSEWHERE_SIGHTINGS


def worker_name(base: str, gpus: Sequence[Gpu], others: Sequence[Job], share: float | None = None) -> str:
    """What ClearML calls an allocation: `<base>:gpu0,1`; `<base>:gpu0.N` for a part of a GPU, `<base>:cpu:N` without one,
    with the lowest number that is not in use."""
    if gpus and share is None:
        return f"{base}:gpu{','.join(str(gpu.index) for gpu in gpus)}"
    stem, number = (f"{base}:gpu{gpus[0].index}.", 1) if gpus else (f"{base}:cpu:", 0)
    taken = {job.worker for job in others}
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}"
