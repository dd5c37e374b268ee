"""The tasks of one machine of the simulation: claimed, run and ended in virtual time, and what of that is still to be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from fleet.model import PARTS_OF_A_GPU, Allocation, Gpu, Run, RunResult, Task, altered
from fleet.providers.base import LaunchOrder
from fleet.simulate import sickness
from fleet.simulate.surroundings import World
from fleet.simulate.truth import Attempt
from fleet.supervisor.allocation import Free
from fleet.supervisor.instructions import Claim
from fleet.supervisor.situation import Held

# How long a task lasts where every agent dies.
FAILS_AFTER = timedelta(seconds=2)


@dataclass(slots=True, kw_only=True)
class Job:
    """A task that runs here."""

    held: Held
    allocation: Allocation
    run: Run
    attempt: Attempt


class Jobs:
    """Who holds what of a machine's GPUs."""

    def __init__(self, order: LaunchOrder, gpus: tuple[Gpu, ...], world: World, on_end: Callable[[], None]) -> None:
        """`on_end` hears that a task ended by itself."""
        self._order, self._world, self._on_end = order, world, on_end
        self._jobs: dict[str, Job] = {}
        self._untold: list[tuple[Task, RunResult]] = []  # what tasks came to, for the server
        self.gpus = self.working = gpus  # as they are now, and those that work
        self.sick: Mapping[str, str] = {}  # the others, and why
        self.free = len(gpus) * PARTS_OF_A_GPU  # the most that one task could get, in parts of a GPU
        self.held: tuple[Held, ...] = ()
        self.allocations: tuple[Allocation, ...] = ()
        self.idle_since: datetime | None = None
        self.new_runs: list[Run] = []  # for the centre

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def unsent(self) -> frozenset[str]:
        """Tasks that have ended, and the server does not know it."""
        return frozenset(task.id for task, _ in self._untold)

    def claim(self, claim: Claim) -> None:
        """Take a task out of its queue and start it, unless somebody was faster."""
        world, task, at = self._world, claim.task, self._world.agenda.at
        if not world.server.claim(task):
            return
        job = self._job_of(claim, at)
        world.server.started(task.id, job.run.worker, "claimed")
        self._jobs[task.id] = job
        self.new_runs.append(job.run)
        self._look()
        self.idle_since = None
        world.truth.start(job.attempt)
        if world.faults.has(world.faults.failing_agents, "agents fail", self._order.instance):
            world.agenda.add(at + FAILS_AFTER, partial(self._end, job, RunResult.FAILED))
            return
        world.agenda.add(at + world.duration_of(task.id), partial(self._end, job, RunResult.COMPLETED))
        world.on_start(task)

    def stop(self, task: str, result: RunResult | None) -> None:
        """Its supervisor ended it. `result`: what to tell the server; None: it knows better already."""
        job = self._jobs[task]
        self._world.truth.end(job.attempt, self._world.agenda.at)
        self._release(job, result)

    def lose_all(self) -> None:
        """The machine is no more, or its supervisor."""
        for job in self._jobs.values():
            self._world.truth.end(job.attempt, self._world.agenda.at)
        self._jobs.clear()

    def lose_gpus(self) -> None:
        """Most of them fail."""
        self.gpus = sickness.failed(self.gpus)
        self.working, self.sick = sickness.working(self.gpus), sickness.sick(self.gpus)
        self._look()

    def tell_server(self) -> None:
        """What tasks came to."""
        untold, self._untold = self._untold, []
        server = self._world.server
        for task, result in untold:
            if result is RunResult.REQUEUED:
                server.put_back(task.id, task.queue, "its machine ends")
            elif result is RunResult.FAILED:
                server.failed(task.id, "its agent died")
            else:
                server.completed(task.id, "it ended by itself")

    def _job_of(self, claim: Claim, at: datetime) -> Job:
        task, instance, share = claim.task, self._order.instance, claim.task.need.share
        worker = f"{self._world.cluster}:{self._order.resource.name}:{instance}:{task.id}"
        return Job(
            held=Held(task=task, gpus=claim.gpus),
            allocation=Allocation(
                task=task.id,
                queue=task.queue,
                worker=worker,
                gpus=claim.gpus,
                started_at=at,
                share=share,
                user=task.user,
                gang=task.gang,
            ),
            run=Run(
                task=task.id,
                instance=instance,
                queue=task.queue,
                worker=worker,
                gpus=claim.gpus,
                enqueued_at=task.enqueued_at,
                claimed_at=at,
                started_at=at,
            ),
            attempt=Attempt(task=task.id, instance=instance, gpus=share or len(claim.gpus), started_at=at),
        )

    def _end(self, job: Job, result: RunResult) -> None:
        """It came to its own end, or its agent died, if it is still here."""
        if self._jobs.get(job.held.task.id) is job:
            is_complete = result is RunResult.COMPLETED
            self._world.truth.end(job.attempt, self._world.agenda.at, is_complete=is_complete)
            self._release(job, result)
            self._on_end()

    def _release(self, job: Job, result: RunResult | None) -> None:
        task, at = job.held.task, self._world.agenda.at
        del self._jobs[task.id]
        self._look()
        if not self._jobs:
            self.idle_since = at
        if result:
            self._untold.append((task, result))
        self.new_runs = [run for run in self.new_runs if run.task != task.id]
        self.new_runs.append(altered(job.run, ended_at=at, result=result or RunResult.STOPPED))

    def _look(self) -> None:
        """What is held and what is free, read off again."""
        self.held = tuple(job.held for job in self._jobs.values())
        self.allocations = tuple(job.allocation for job in self._jobs.values())
        held = [(each.gpus, each.task.need.share) for each in self.held]
        if not self.sick and all(share is None for _, share in held):
            self.free = (len(self.gpus) - sum([len(gpus) for gpus, _ in held])) * PARTS_OF_A_GPU
        else:
            free = Free.of(self.working, held)
            self.free = len(free.whole) * PARTS_OF_A_GPU or max(free.shared.values(), default=0)
        self.tell_spare()

    def tell_spare(self) -> None:
        """Who looks for a machine that is idle, or has something left, need not ask all of them."""
        if self.free or not self._jobs:
            self._world.spare[self._order.instance] = self.free
        else:
            self._world.spare.pop(self._order.instance, None)
