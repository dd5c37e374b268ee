"""A simulation over time, in a few hundred spans of equal length: machines, waiting, dollars. Measured on what really ran.

A mean over a span keeps the area under the curve, so that GPU-hours and dollars can be read off; of waiting the worst
moment of each span is kept, because that is what people remember.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fleet.simulate.agenda import seconds
from fleet.simulate.bill import Billed
from fleet.simulate.setting import Outcome, Setting
from fleet.simulate.trace import task_id
from fleet.simulate.truth import Attempt, Life

SPANS = 400
A_HAIR = 1e-9  # of a span: what ends where one begins is not in it

Interval = tuple[float, float, float]  # from, until (seconds), how much


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One value for each span, but for `edges_s`: where the spans begin, and where the last one ends."""

    edges_s: Sequence[float]
    instances: Mapping[str, Sequence[float]]  # by "resource type market": how many ran, mean
    gpus_billed: Sequence[float]  # mean
    gpus_used: Sequence[float]  # mean
    waiting: Sequence[float]  # tasks, at the worst moment; those that never started are left out
    longest_wait_s: Sequence[float]  # of one that waits then, at the worst moment
    usd: Sequence[float]  # from the start until the end of the span
    usd_work: Sequence[float]  # of that: for the GPUs that held tasks which came to their end there


def timeline_of(setting: Setting, outcome: Outcome, spans: int = SPANS) -> Timeline:
    """From the first submission until the last machine has ended."""
    truth = outcome.truth
    bills = {life.instance: Billed(life, outcome.ended_at) for life in truth.lives.values()}
    submitted_s = [job.submit_s for job in setting.workload[-1:]]
    end_s = max([seconds(bill.billed_until) for bill in bills.values()] + submitted_s + [1.0])
    edges = [end_s * n / spans for n in range(spans + 1)]
    by_type: dict[str, list[Interval]] = defaultdict(list)
    for life in truth.lives.values():
        bill = bills[life.instance]
        by_type[kind_of_machine(life)].append((seconds(bill.start), seconds(bill.billed_until), 1.0))
    spent = [(seconds(b.start), seconds(b.billed_until), b.usd_per_hour / 3600) for b in bills.values()]
    billed = [(seconds(b.start), seconds(b.billed_until), float(b.gpus)) for b in bills.values()]
    used = [(*_span(a, outcome), a.gpus) for a in truth.attempts]
    work = [(*_span(a, outcome), _usd_per_s(a, truth.lives[a.instance])) for a in truth.attempts if a.is_complete]
    waits = [wait for _, wait in waits_of(setting, outcome)]
    return Timeline(
        edges_s=edges,
        instances={name: _means(by_type[name], edges) for name in sorted(by_type)},
        gpus_billed=_means(billed, edges),
        gpus_used=_means(used, edges),
        waiting=_most(waits, edges),
        longest_wait_s=_longest(waits, edges),
        usd=_integral(spent, edges)[1:],
        usd_work=_integral(work, edges)[1:],
    )


def as_csv(timelines: Mapping[str, Timeline]) -> str:
    """One row for each fleet and span."""
    names = sorted({name for timeline in timelines.values() for name in timeline.instances})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fixed = ["gpus_billed", "gpus_used", "waiting", "longest_wait_s", "usd", "usd_work", "usd_overhead"]
    writer.writerow(["fleet", "from_s", "until_s", *fixed, *(f"instances {name}" for name in names)])
    for fleet, t in timelines.items():
        nothing = [0.0] * (len(t.edges_s) - 1)
        overhead = [usd - work for usd, work in zip(t.usd, t.usd_work, strict=True)]
        columns = [t.edges_s, t.edges_s[1:], t.gpus_billed, t.gpus_used, t.waiting, t.longest_wait_s]
        columns += [t.usd, t.usd_work, overhead, *(t.instances.get(name, nothing) for name in names)]
        for row in zip(*columns, strict=False):  # there is one edge more than spans
            writer.writerow([fleet, *(f"{value:.4f}".rstrip("0").rstrip(".") for value in row)])
    return text.getvalue()


def kind_of_machine(life: Life) -> str:
    return f"{life.offer.resource} {life.offer.type} {life.offer.market}"


def _span(attempt: Attempt, outcome: Outcome) -> tuple[float, float]:
    return seconds(attempt.started_at), seconds(attempt.ended_at or outcome.ended_at)


def _usd_per_s(attempt: Attempt, life: Life) -> float:
    """Its share of the machine: by GPUs, of a machine without any by CPUs."""
    offer = life.offer
    share = attempt.gpus / offer.gpus if offer.gpus else 1 / max(offer.cpus, 1)
    return min(share, 1.0) * (offer.price_usd_per_hour or 0.0) / 3600


def waits_of(setting: Setting, outcome: Outcome) -> list[tuple[str, Interval]]:
    """When each task waited, with its queue: before its first start, and again whenever it was put back."""
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in outcome.truth.attempts:
        attempts[attempt.task].append(attempt)
    waits: list[tuple[str, Interval]] = []
    for place, job in enumerate(setting.workload):
        since = job.submit_s
        for attempt in attempts[task_id(place)]:
            start, end = _span(attempt, outcome)
            waits.append((job.queue, (since, max(start, since), 1.0)))
            since = end
    return [(queue, wait) for queue, wait in waits if wait[1] > wait[0]]


# --- step functions on spans


def changes(intervals: Iterable[Interval]) -> list[tuple[float, float]]:
    """By how much the level changes, and when."""
    return sorted(change for start, end, value in intervals for change in ((start, value), (end, -value)))


def _integral(intervals: Iterable[Interval], edges: Sequence[float]) -> list[float]:
    """The area from the first edge to each."""
    found, area, level, at = [], 0.0, 0.0, edges[0]
    steps = changes(intervals)
    place = 0
    for edge in edges:
        while place < len(steps) and steps[place][0] <= edge:
            when, change = steps[place]
            area += level * (when - at)
            level, at, place = level + change, when, place + 1
        area += level * (edge - at)
        at = edge
        found.append(area)
    return found


def _means(intervals: Iterable[Interval], edges: Sequence[float]) -> list[float]:
    area = _integral(intervals, edges)
    return [max(area[n + 1] - area[n], 0.0) / (edges[n + 1] - edges[n]) for n in range(len(edges) - 1)]


def _most(intervals: Iterable[Interval], edges: Sequence[float]) -> list[float]:
    """The highest level that was reached in each span."""
    steps = changes(intervals)
    found, level, place = [], 0.0, 0
    for end in edges[1:]:
        most = level
        while place < len(steps) and steps[place][0] <= end:
            level += steps[place][1]
            most = max(most, level)
            place += 1
        found.append(most)
    return found


def _longest(intervals: Sequence[Interval], edges: Sequence[float]) -> list[float]:
    """In each span, how long the one that has waited longest by then had waited at most."""
    count = len(edges) - 1
    width = edges[-1] / count
    earliest: list[float | None] = [None] * count  # of those that wait through to the end of a span
    found = [0.0] * count
    filled_until = 0
    for start, end, _ in sorted(intervals):
        first = min(int(start / width), count - 1)
        last = min(max(math.ceil(end / width - A_HAIR) - 1, first), count - 1)
        found[last] = max(found[last], end - start)
        for span in range(max(first, filled_until), last):
            earliest[span] = start  # sorted by their start: who is there first has waited longest
        filled_until = max(filled_until, last)
    for span, start_s in enumerate(earliest):
        if start_s is not None:
            found[span] = max(found[span], edges[span + 1] - start_s)
    return found
