"""What follows from offers, queues and habits alone. Of two plans that find them the same, the second need not work it out.

That is a shortcut, not a memory: everything here follows from its key, so a plan is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.model import Habits, Offer, Queue, Snapshot
from fleet.planner.demand import Choice, choices_of, rank_of
from fleet.planner.worth import Alternative, Scale, steps_of

Above = tuple[tuple[str, float], ...]  # as Standing.above_gpus
Levels = dict[tuple[str, float | None, int, int], Above]  # by resource, price, GPUs of the machine, and its tasks
Open = frozenset[str]  # resources of a queue of which no limit forbids one more machine


@dataclass(slots=True)
class Sizes:
    """By resource, then by queue that it serves: what may be launched now for plain tasks of the queue."""

    scales: dict[str, dict[str, Scale]] = field(default_factory=dict)
    levels: Levels = field(default_factory=dict)  # as they are asked for

    def add(self, queue: Queue, steps: Sequence[Alternative], habits: Habits) -> None:
        if len(steps) > 1:  # else nothing can be smaller and cheaper
            scale = Scale(steps, habits, queue.name)
            for name in queue.resources:
                self.scales.setdefault(name, {})[queue.name] = scale


class Ground:
    """What one set of offers, queues and habits comes to."""

    def __init__(self, key: tuple[object, ...], snapshot: Snapshot) -> None:
        self.key = key
        self.choices: dict[str, list[Choice]] = choices_of(snapshot)
        self._queues, self._habits = snapshot.queues, snapshot.habits
        self._sizes: tuple[tuple[Open, ...], Sizes] | None = None

    def sizes(self, opens: Sequence[Open]) -> Sizes:
        """`opens`: for each queue, in their order."""
        if self._sizes is None or self._sizes[0] != tuple(opens):
            self._sizes = tuple(opens), self._sizes_of(opens)
        return self._sizes[1]

    def _sizes_of(self, opens: Sequence[Open]) -> Sizes:
        sizes = Sizes()
        alike: dict[object, Sequence[Alternative]] = {}  # queues that may launch the same
        for queue, names in zip(self._queues, opens, strict=True):
            kind = (queue.resources, queue.order, names)
            if kind not in alike:
                able = {c.place for name in names for c in self.choices[name]}
                alike[kind] = steps_for(queue, self.choices, able)
            sizes.add(queue, alike[kind], self._habits)
        return sizes


def steps_for(queue: Queue, choices: Mapping[str, Sequence[Choice]], able: Container[int]) -> Sequence[Alternative]:
    """What a queue may launch, by size. `able`: the places of the choices that no limit forbids."""
    found = [
        (rank, choice.offer)
        for rank, choice in rank_of(queue, choices)
        if choice.usd is not None and not choice.backoff and choice.place in able
    ]
    # GPUs that the queue would rather not have do not compete with those that it prefers.
    best = min((rank for rank, _ in found), default=0)
    return steps_of(offer for rank, offer in found if rank == best)


def level_key(offer: Offer, tasks: int) -> tuple[str, float | None, int, int]:
    return offer.resource, offer.price_usd_per_hour, offer.gpus, tasks


_latest: list[Ground] = []


def ground_of(snapshot: Snapshot) -> Ground:
    """That of this snapshot: the one of the last plan, where nothing that it follows from has changed."""
    backoffs = tuple(b for b in snapshot.backoffs if b.until > snapshot.at and not b.is_probing)
    key = (snapshot.offers, snapshot.resources, snapshot.queues, snapshot.pools, backoffs, snapshot.habits)
    for latest in _latest:
        if latest.key == key:
            return latest
    _latest[:] = [Ground(key, snapshot)]
    return _latest[0]
