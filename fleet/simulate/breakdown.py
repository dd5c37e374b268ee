"""Where the waiting and the money of a simulation went: by queue, by kind of machine, and at which limit people waited.

Measured on what really ran. What a limit made wait is read off in the time in which it was reached: nothing more could be launched then.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from fleet.simulate.agenda import seconds
from fleet.simulate.bill import Billed
from fleet.simulate.figures import quantile
from fleet.simulate.setting import Outcome, Setting
from fleet.simulate.timeline import Interval, changes, kind_of_machine, waits_of
from fleet.simulate.trace import task_id

NOTHING = timedelta(0)
A_CENT = 0.01  # below it, dollars an hour are equal


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePart:
    """The waiting of one queue, until the first start of each task; those that never started do not count."""

    queue: str
    tasks: int
    started: int
    wait_mean_s: float
    wait_p50_s: float
    wait_p95_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KindPart:
    """The machines of one resource, type and market."""

    kind: str
    instances: int
    hours: float
    usd: float
    used: float | None  # of its GPU-hours, how many held a task; None: it has no GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPart:
    """A limit that was reached while somebody waited whom it concerns."""

    limit: str  # as the fleet file has it: budget.max_instances: 4
    reached_s: float
    waiting: float  # of all that its queues waited, the part that fell into that time: 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    queues: tuple[QueuePart, ...]  # as the fleet file orders them; those with tasks alone
    kinds: tuple[KindPart, ...]  # dearest first
    limits: tuple[LimitPart, ...]  # what most waited at first
    cut_short: int = 0  # runs of tasks that did not come to their own end: their machine was taken back, or failed
    redone_gpu_hours: float = 0.0  # of those: what was not kept by a checkpoint


def breakdown_of(setting: Setting, outcome: Outcome) -> Breakdown:
    cut_short, redone_gpu_hours = _cut_short(outcome)
    return Breakdown(
        cut_short=cut_short,
        redone_gpu_hours=redone_gpu_hours,
        queues=tuple(_queues(setting, outcome)),
        kinds=tuple(sorted(_kinds(outcome), key=lambda part: (-part.usd, part.kind))),
        limits=tuple(sorted(_limits(setting, outcome), key=lambda part: (-part.waiting, part.limit))),
    )


def _queues(setting: Setting, outcome: Outcome) -> Iterator[QueuePart]:
    waits: dict[str, list[float]] = defaultdict(list)
    count: dict[str, int] = defaultdict(int)
    for place, job in enumerate(setting.workload):
        count[job.queue] += 1
        if started_at := outcome.truth.first_start.get(task_id(place)):
            waits[job.queue].append(seconds(started_at) - job.submit_s)
    for queue in setting.policy.queues:
        mine = sorted(waits[queue.name])
        if count[queue.name]:
            yield QueuePart(
                queue=queue.name,
                tasks=count[queue.name],
                started=len(mine),
                wait_mean_s=math.fsum(mine) / len(mine) if mine else 0.0,
                wait_p50_s=quantile(mine, 0.5),
                wait_p95_s=quantile(mine, 0.95),
            )


def _kinds(outcome: Outcome) -> Iterator[KindPart]:
    lives = outcome.truth.lives
    bills: dict[str, list[Billed]] = defaultdict(list)
    used: dict[str, float] = defaultdict(float)
    for life in lives.values():
        bills[kind_of_machine(life)].append(Billed(life, outcome.ended_at))
    for attempt in outcome.truth.attempts:
        held_s = seconds(attempt.ended_at or outcome.ended_at) - seconds(attempt.started_at)
        used[kind_of_machine(lives[attempt.instance])] += held_s / 3600 * attempt.gpus
    for kind, mine in bills.items():
        gpu_hours = math.fsum(bill.hours * bill.gpus for bill in mine)
        yield KindPart(
            kind=kind,
            instances=len(mine),
            hours=math.fsum(bill.hours for bill in mine),
            usd=math.fsum(bill.usd for bill in mine),
            used=used[kind] / gpu_hours if gpu_hours else None,
        )


def _cut_short(outcome: Outcome) -> tuple[int, float]:
    attempts = [attempt for attempt in outcome.truth.attempts if not attempt.is_complete]
    gpus = {attempt.task: attempt.gpus for attempt in attempts}
    held = ((seconds(a.ended_at or outcome.ended_at) - seconds(a.started_at)) * a.gpus for a in attempts)
    kept = (outcome.truth.kept.get(task, NOTHING).total_seconds() * count for task, count in gpus.items())
    return len(attempts), max(math.fsum(held) - math.fsum(kept), 0.0) / 3600


def _limits(setting: Setting, outcome: Outcome) -> Iterator[LimitPart]:
    policy, everybody = setting.policy, {queue.name for queue in setting.policy.queues}
    lives = outcome.truth.lives.values()
    ran = [(life, seconds(life.launched_at), seconds(life.ended_at or outcome.ended_at)) for life in lives]
    each = [(start, end, 1.0) for _, start, end in ran]
    if (most := policy.budget.max_instances) is not None:
        yield from _limit(f"budget.max_instances: {most}", each, most, everybody, setting, outcome)
    if (usd := policy.budget.usd_per_hour) is not None:
        rates = [(start, end, life.offer.price_usd_per_hour or 0.0) for life, start, end in ran]
        prices = [o.price_usd_per_hour for offers in setting.offers.values() for o in offers if o.price_usd_per_hour]
        full = usd - min(prices, default=0.0) + A_CENT  # not even the cheapest machine could be added
        yield from _limit(f"budget.usd_per_hour: {usd:g}", rates, full, everybody, setting, outcome)
    for resource in policy.resources:
        if (most := resource.max_instances) is not None:
            mine = [(start, end, 1.0) for life, start, end in ran if life.offer.resource == resource.name]
            whose = {queue.name for queue in policy.queues if resource.name in queue.resources}
            path = f"resources.{resource.name}.max_instances: {most}"
            yield from _limit(path, mine, most, whose, setting, outcome)


def _limit(
    path: str, running: Sequence[Interval], full: float, queues: set[str], setting: Setting, outcome: Outcome
) -> Iterator[LimitPart]:
    reached = _Reached(running, full)
    waits = [wait for queue, wait in waits_of(setting, outcome) if queue in queues]
    waited_s = math.fsum(end - start for start, end, _ in waits)
    there_s = math.fsum(reached.within_s(start, end) for start, end, _ in waits)
    if there_s and waited_s:
        yield LimitPart(limit=path, reached_s=reached.all_s, waiting=there_s / waited_s)


class _Reached:
    """When so much ran that nothing more fitted."""

    def __init__(self, running: Sequence[Interval], full: float) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []
        level, since = 0.0, None
        steps = changes(running)
        for n, (at, change) in enumerate(steps):
            level += change
            if n + 1 < len(steps) and steps[n + 1][0] == at:
                continue  # of one instant what it comes to counts
            if level >= full and since is None:
                since = at
            elif level < full and since is not None:
                self._starts.append(since)
                self._ends.append(at)
                since = None
        self._before = [0.0]
        for start, end in zip(self._starts, self._ends, strict=True):
            self._before.append(self._before[-1] + end - start)
        self.all_s = self._before[-1]

    def within_s(self, start: float, end: float) -> float:
        """For how much of that time it was so."""
        return self._until(end) - self._until(start)

    def _until(self, at: float) -> float:
        n = bisect_right(self._starts, at)
        return self._before[n] - (max(self._ends[n - 1] - at, 0.0) if n else 0.0)
