"""How long tasks pin a machine together: the longest of them ends it. Learned from how long tasks ran (`fleet.planner.habits`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fleet.model import Habits

# Of a queue of which nothing is known: tasks that come together are mostly of one kind and end together. A little more than
# 1, so that of two mixes at one price the one of smaller machines wins.
UNKNOWN_GROWTH = 0.005
UNKNOWN_MEAN_S = 3600.0
MOST_TASKS = 16  # on one machine, that are told apart
FEWEST_SAMPLES = 20


def stretch_of(durations_s: Sequence[float]) -> tuple[float, ...]:
    """The expected longest of 1, 2, ... MOST_TASKS tasks drawn from these, in mean durations; empty: too few to tell."""
    ordered = sorted(durations_s)
    count, total = len(ordered), sum(ordered)
    if count < FEWEST_SAMPLES or total <= 0:
        return ()
    found = []
    shares = [place / count for place in range(1, count)]  # of those that are no longer than this one
    # The longest of k is longer than the n-th, and as long as the next at least, unless all k are of the first n.
    missing = [after - before for before, after in pairwise(ordered)]
    for _ in range(MOST_TASKS):
        missing = [gap * share for gap, share in zip(missing, shares, strict=True)]
        found.append(max((ordered[-1] - sum(missing)) * count / total, 1.0))
    return tuple(found)


def stretch(habits: Habits, queue: str, tasks: int) -> float:
    """The longest of so many tasks of a queue, in mean durations; at least 1."""
    known = habits.stretch.get(queue) or habits.stretch.get("")
    if not known:
        return 1 + UNKNOWN_GROWTH * (tasks - 1)
    return known[min(tasks, len(known)) - 1]


def mean_s(habits: Habits, queue: str) -> float:
    """How long a task of a queue runs, seconds."""
    return habits.mean_s.get(queue) or habits.mean_s.get("") or UNKNOWN_MEAN_S
