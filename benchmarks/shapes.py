"""Autoscalers that are only shapes: what they do, in a small event simulation of our own, not their code.

a VM for each task     ended with it
smallest fitting VM    a task takes the tightest room on any machine that is up; tasks that have none are packed into
                       what boots, and the cheapest VM that holds it is launched for each that is left. A machine
                       ends when it has been empty for the idle time: cluster-autoscaler, Ray, dstack and others
kept to its width      the same with a pool for each shape, which tasks of other widths may not use (node selectors)
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks.workloads import usd_per_hour
from fleet.model import Offer
from fleet.simulate.faults import Faults
from fleet.simulate.trace import Submission

LEAST_BILLED_S = 60.0
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What tells one from another."""

    idle_s: float  # an empty machine is kept so long
    poll_s: float  # it looks at what waits so often
    is_a_vm_each: bool = False  # a machine takes one task in its life
    is_kept_to_width: bool = False  # a machine takes the tasks alone for which it is the cheapest


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the cloud does, the same for everybody."""

    offers: Sequence[Offer]
    boot_s: float = 180.0
    faults: Faults = field(default_factory=Faults)  # of them only how long spot machines live
    checkpoint_s: float | None = None  # a task keeps what it did in whole steps of so long; None: it starts anew

    def smallest(self, gpus: float) -> Offer:
        """The cheapest that holds such a task."""
        return min((o for o in self.offers if o.gpus >= gpus), key=lambda o: (usd_per_hour(o), o.gpus))

    def life_s(self, offer: Offer, number: int) -> float | None:
        """How long the cloud leaves us the machine of this number; None: as long as we want."""
        life = self.faults.spot_life_of(offer, f"machine {number}")
        return None if life is None else life.total_seconds()


@dataclass(slots=True, kw_only=True)
class Bill:
    """What came of it."""

    usd: float = 0.0
    machines: int = 0
    preempted: int = 0
    waits_s: list[float] = field(default_factory=list)  # from the submission to the first start

    def pay(self, offer: Offer, seconds: float) -> None:
        """For a machine that ended."""
        self.usd += max(seconds, LEAST_BILLED_S) / HOUR_S * usd_per_hour(offer)


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A task on its way."""

    task: Submission
    left_s: float
    started_at: float | None = None  # this attempt
    was_started: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Machine:
    """A VM."""

    offer: Offer
    launched_at: float
    free: float
    is_up: bool = False
    is_gone: bool = False
    was_used: bool = False
    empty_since: float | None = None
    jobs: list[Job] = field(default_factory=list)


class Agenda:
    """Virtual seconds, and what will happen when."""

    def __init__(self) -> None:
        self.at = 0.0
        self._appointments: list[tuple[float, int, Callable[[], None]]] = []
        self._made = 0

    def add(self, at: float, what: Callable[[], None]) -> None:
        self._made += 1
        heapq.heappush(self._appointments, (at, self._made, what))

    def run(self, until: float = math.inf) -> bool:
        """All that happens up to then; whether there is anything left."""
        while self._appointments and self._appointments[0][0] <= until:
            self.at, _, what = heapq.heappop(self._appointments)
            what()
        if until < math.inf:
            self.at = until
        return bool(self._appointments)


class ShapeSimulation:
    """One run, until the last machine has ended."""

    def __init__(self, tasks: Sequence[Submission], habits: Habits, conditions: Conditions) -> None:
        self.habits, self.conditions, self.bill = habits, conditions, Bill()
        self._agenda = Agenda()
        self._pending: list[Job] = []
        self._machines: list[Machine] = []  # in the order of their launch
        self._is_scan_due = False
        for task in tasks:
            self._agenda.add(task.submit_s, partial(self._submit, task))

    def run(self) -> Bill:
        self._agenda.run()
        assert not self._machines
        return self.bill

    def _submit(self, task: Submission) -> None:
        self._pending.append(Job(task=task, left_s=task.duration_s))
        self._start_what_fits()

    def _start_what_fits(self) -> None:
        """The oldest first; one that finds no room is passed."""
        left = []
        up = [m for m in self._machines if m.is_up and m.free]
        for job in self._pending:
            room = self._tightest(job, up) if up else None
            if room is None:
                left.append(job)
            else:
                self._start(job, room)
        self._pending = left
        if left and not self._is_scan_due:
            self._is_scan_due = True
            poll_s = self.habits.poll_s
            self._agenda.add((self._agenda.at // poll_s + 1) * poll_s, self._scan)

    def _tightest(self, job: Job, machines: Sequence[Machine]) -> Machine | None:
        able = [m for m in machines if m.free >= job.task.gpus and self._may_take(m, job)]
        return min(able, key=lambda m: m.free, default=None)

    def _may_take(self, machine: Machine, job: Job) -> bool:
        if self.habits.is_a_vm_each and machine.was_used:
            return False
        return not (self.habits.is_kept_to_width or self.habits.is_a_vm_each) or (
            machine.offer is self.conditions.smallest(job.task.gpus)
        )

    def _scan(self) -> None:
        """Pack what waits into what boots; launch for what is left."""
        self._is_scan_due = False
        coming = {m: m.free for m in self._machines if not m.is_up}
        for job in self._pending:
            able = [m for m, free in coming.items() if free >= job.task.gpus and self._may_take(m, job)]
            machine = min(able, key=coming.__getitem__, default=None)
            if machine is None:
                machine = self._launch(self.conditions.smallest(job.task.gpus))
                coming[machine] = machine.free
            coming[machine] -= machine.free if self.habits.is_a_vm_each else job.task.gpus

    def _launch(self, offer: Offer) -> Machine:
        at, life_s = self._agenda.at, self.conditions.life_s(offer, self.bill.machines)
        machine = Machine(offer=offer, launched_at=at, free=offer.gpus)
        self._machines.append(machine)
        self.bill.machines += 1
        self._agenda.add(at + self.conditions.boot_s, lambda: self._boot(machine))
        if life_s is not None:
            self._agenda.add(at + life_s, lambda: self._take_back(machine))
        return machine

    def _boot(self, machine: Machine) -> None:
        if not machine.is_gone:
            machine.is_up = True
            self._is_empty(machine)
            self._start_what_fits()

    def _start(self, job: Job, machine: Machine) -> None:
        at = self._agenda.at
        machine.free -= job.task.gpus
        machine.was_used, machine.empty_since = True, None
        machine.jobs.append(job)
        job.started_at = at
        if not job.was_started:
            job.was_started = True
            self.bill.waits_s.append(at - job.task.submit_s)
        self._agenda.add(at + job.left_s, lambda: self._finish(job, machine, at))

    def _finish(self, job: Job, machine: Machine, started_at: float) -> None:
        if machine.is_gone or job not in machine.jobs or job.started_at != started_at:
            return
        machine.jobs.remove(job)
        machine.free += job.task.gpus
        if not machine.jobs:
            self._is_empty(machine)
        self._start_what_fits()

    def _is_empty(self, machine: Machine) -> None:
        """It ends at the first look after its idle time, if nothing comes."""
        if machine.was_used and self.habits.is_a_vm_each:
            self._end(machine)
            return
        since = machine.empty_since = self._agenda.at
        poll_s = self.habits.poll_s
        due = math.ceil((since + self.habits.idle_s) / poll_s) * poll_s
        self._agenda.add(due, lambda: self._end(machine) if machine.empty_since == since else None)

    def _end(self, machine: Machine) -> None:
        if not machine.is_gone:
            machine.is_gone = True
            self._machines.remove(machine)
            self.bill.pay(machine.offer, self._agenda.at - machine.launched_at)

    def _take_back(self, machine: Machine) -> None:
        """The cloud takes it; what ran there goes back to the front, with what it had left or all of it."""
        if machine.is_gone:
            return
        self._end(machine)
        for job in reversed(machine.jobs):
            assert job.started_at is not None
            self.bill.preempted += 1
            if step_s := self.conditions.checkpoint_s:
                job.left_s -= (self._agenda.at - job.started_at) // step_s * step_s
            self._pending.insert(0, job)
        machine.jobs.clear()
        self._start_what_fits()
