"""What somebody who knows every arrival beforehand would do: a line that nobody crosses by being cleverer about idle machines.

GPUs are had one by one at one price (so nothing is ever left over on a machine), tasks start as soon as they can, and at
the end of each use of a GPU it is known how long it will not be needed: it is kept for that gap, or ended and booted again.
Waiting is worth `wait_worth` seconds of a GPU for each second that a task waits; the dearer it is, the longer gaps are kept.
Whoever does not know the future, or has whole machines to fill, pays more for the same waiting. Only making tasks wait on
purpose, to level peaks, is not in it.

The same with machines instead, each task on one of its own width: that is how much of the way the machines take, which
are for sale in whole ones. Between the two lies what can be had by giving small tasks the rest of large machines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fleet.simulate.trace import Submission

WORTHS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    over_bound_percent: float  # GPU time that is paid and not used, above the time that is used
    wait_mean_s: float


@dataclass(frozen=True, slots=True)
class Gap:
    """One GPU is not needed for so long; then a task needs it, which then waits for a boot if it is not there."""

    seconds: float  # inf: it was never needed before
    width: int  # GPUs of that task: it waits once for all of them


def best_within(
    tasks: Sequence[Submission], boot_s: float, mean_wait_s: float, widths: Sequence[int] | None = None
) -> Foresight:
    """The cheapest with no more waiting than this; where none has so little, the one that waits least.

    `widths`: of the machines that there are, in GPUs; None: GPUs are had one by one.
    """
    gaps = list(_gaps(tasks) if widths is None else _gaps_by_width(tasks, widths))
    found = [_at(gaps, tasks, boot_s, worth) for worth in WORTHS]
    good = [each for each in found if each.wait_mean_s <= mean_wait_s]
    return good[0] if good else found[-1]


def _at(gaps: Iterable[Gap], tasks: Sequence[Submission], boot_s: float, wait_worth: float) -> Foresight:
    extra_s = waited_s = 0.0
    for gap in gaps:
        if gap.seconds <= boot_s + wait_worth * boot_s / gap.width:
            extra_s += gap.seconds
        else:
            extra_s += boot_s
            waited_s += boot_s / gap.width
    used_s = sum(task.gpus * task.duration_s for task in tasks)
    return Foresight(over_bound_percent=100 * extra_s / used_s, wait_mean_s=waited_s / len(tasks))


def _gaps_by_width(tasks: Iterable[Submission], widths: Sequence[int]) -> Iterable[Gap]:
    """The n-th machine of a width is in use whenever n are; a gap of one is a gap of each of its GPUs."""
    groups: dict[int, list[Submission]] = {width: [] for width in widths}
    for task in tasks:
        groups[min(width for width in widths if width >= task.gpus)].append(replace(task, gpus=1))
    for width, group in groups.items():
        for gap in _gaps(group):
            yield from [Gap(gap.seconds, width)] * width


def _gaps(tasks: Iterable[Submission]) -> Iterable[Gap]:
    """The n-th GPU is in use whenever n are."""
    changes: list[tuple[float, int]] = []
    for task in tasks:
        gpus = math.ceil(task.gpus)
        changes += [(task.submit_s, gpus), (task.submit_s + task.duration_s, -gpus)]
    in_use = 0
    free_since: dict[int, float] = {}
    for at, change in sorted(changes):
        for n in range(in_use + 1, in_use + change + 1):
            yield Gap(at - free_since[n] if n in free_since else math.inf, change)
        for n in range(in_use + change + 1, in_use + 1):
            free_since[n] = at
        in_use += change
