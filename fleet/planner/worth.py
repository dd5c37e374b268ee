"""Whether a small task is worth a place on a large machine, when a small machine could be launched for it instead.

A task that outlives the others of its machine pins it, and pays for all of it. On average it does so for what the longest
of k + 1 tasks is longer than the longest of k. That is weighed against a machine of its own: its price for the length of
the task, its boot, and the waiting for it.
"""

from __future__ import annotations

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


def above_gpus(
    offer: Offer, tasks: int, queues: Mapping[str, Sequence[Alternative]], habits: Habits
) -> tuple[tuple[str, float], ...]:
    """By queue: tasks of up to so many GPUs do not belong on a machine of this offer that has `tasks` already.

    `queues`: what may be launched for plain tasks of each queue that it serves. A queue that may use it freely is left out.
    """
    price = offer.price_usd_per_hour
    if not price:
        return ()
    found = []
    for queue, steps in queues.items():
        limit = _limit(offer.gpus, price, tasks, steps, habits, queue)
        if limit > ALL:
            found.append((queue, limit))
    return tuple(found)


def _limit(gpus: int, price: float, tasks: int, steps: Sequence[Alternative], habits: Habits, queue: str) -> float:
    pinned = stretch(habits, queue, tasks + 1) - (stretch(habits, queue, tasks) if tasks else 0.0)
    runs_s = mean_s(habits, queue)
    here_usd = price * pinned * runs_s
    limit = ALL
    for step in steps:
        own_usd = step.usd_per_hour * (runs_s + habits.boot_s) + habits.wait_usd_per_hour * habits.boot_s
        if step.gpus < gpus and own_usd < here_usd:
            limit = float(step.gpus)
    return limit
