"""Whether a small task is worth a place on a large machine, when a small machine could be launched for it instead.

A task that outlives the others of its machine pins it, and pays for all of it. On average it does so for what the longest
of k + 1 tasks is longer than the longest of k; where GPUs of large machines are dearer, for as much more. That is weighed
against a machine of its own: its price for the length of the task, its boot, and the waiting for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fleet.model import Habits, Offer
from fleet.planner.stretch import mean_s, stretch

ALL = -1.0  # a machine that takes tasks of any size


class Alternative(NamedTuple):
    """A machine that can be launched now."""

    gpus: int
    usd_per_hour: float


def steps_of(offers: Iterable[Offer]) -> tuple[Alternative, ...]:
    """The cheapest machine for each number of GPUs, smallest first; one that is larger and cheaper leaves the smaller out."""
    cheapest: dict[int, float] = {}
    for offer in offers:
        price = offer.price_usd_per_hour
        if price is not None and price < cheapest.get(offer.gpus, float("inf")):
            cheapest[offer.gpus] = price
    steps: list[Alternative] = []
    for gpus, price in sorted(cheapest.items(), reverse=True):
        if not steps or price < steps[-1].usd_per_hour:
            steps.append(Alternative(gpus, price))
    return tuple(reversed(steps))


class Scale:
    """What a task of one queue costs on machines of its own, to weigh a place on a larger one against."""

    def __init__(self, steps: Sequence[Alternative], habits: Habits, queue: str) -> None:
        runs_s = mean_s(habits, queue)
        wait_usd = habits.wait_usd_per_hour * habits.boot_s
        self._own_usd = [step.usd_per_hour * (runs_s + habits.boot_s) + wait_usd for step in steps]  # grows with GPUs
        self._gpus = [step.gpus for step in steps]
        self._usd = [step.usd_per_hour for step in steps]  # grows with GPUs, too
        self._habits, self._queue, self._runs_s = habits, queue, runs_s
        self._pinned_s: dict[int, float] = {}  # by how many tasks a machine has: how much longer one more pins it

    def limit(self, offer: Offer, tasks: int) -> float:
        """Tasks of up to so many GPUs do not belong on a machine of this offer that has `tasks` already; ALL: they do."""
        pinned_s = self._pinned_s.get(tasks)
        if pinned_s is None:
            pinned = stretch(self._habits, self._queue, tasks + 1)
            pinned -= stretch(self._habits, self._queue, tasks) if tasks else 0.0
            pinned_s = self._pinned_s[tasks] = pinned * self._runs_s
        usd, found = offer.price_usd_per_hour or 0.0, ALL
        for own_usd, step_usd, gpus in zip(self._own_usd, self._usd, self._gpus, strict=True):
            if gpus >= offer.gpus or not usd * pinned_s * _premium(usd, offer.gpus, step_usd, gpus) > own_usd:
                break
            found = float(gpus)
        return found

    def smaller(self, offer: Offer) -> tuple[int, ...]:
        """The GPUs of the machines that are smaller than one of this offer and cheaper."""
        cheaper = bisect_left(self._usd, offer.price_usd_per_hour or 0.0)
        return tuple(self._gpus[: min(cheaper, bisect_left(self._gpus, offer.gpus))])


def _premium(usd: float, gpus: int, own_usd: float, own_gpus: int) -> float:
    """How much dearer a GPU of the large machine is, at least 1: whoever needs a large one gets another instead, at that price."""
    if not gpus or not own_gpus or own_usd <= 0:
        return 1.0
    return max(usd / gpus * own_gpus / own_usd, 1.0)


def above_gpus(offer: Offer, tasks: int, scales: Mapping[str, Scale]) -> list[tuple[str, float]]:
    """By queue: tasks of up to so many GPUs do not belong on a machine of this offer that has `tasks` already.

    `scales`: of the queues that it serves. A queue that may use it freely is left out.
    """
    if not offer.price_usd_per_hour:
        return []
    return [(queue, limit) for queue, scale in scales.items() if (limit := scale.limit(offer, tasks)) > ALL]
