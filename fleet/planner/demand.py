"""What waits, in classes: tasks of one queue with the same wish. What no class needs to ask twice is kept here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleet.model import Offer, Queue, Reason, Resource, Snapshot, Task
from fleet.planner.capacity import Fits, Shape, Walk, shape_of
from fleet.planner.market import ordered, pools_of, with_known_price
from fleet.planner.pauses import Pauses, SpotWait


@dataclass(frozen=True, slots=True)
class Choice:
    """An offer, and what there is to know of it before anybody asks for it."""

    offer: Offer
    resource: Resource
    shape: Shape
    backoff: Reason | None  # why it may not be launched now


@dataclass(slots=True)
class Demand:
    """One class while a plan is made. Rooms only shrink and limits only tighten, so it never asks again what refused it."""

    queue: Queue
    fits: Fits
    reason: Reason  # of what is launched for it
    walks: Sequence[Walk]  # through what is there, in the order of the queue's resources
    choices: Sequence[Choice]  # that can hold such a task, in the same order
    next_choice: int = 0
    refusal: Reason | None = None  # why it can get no machine
    refused_at: int = 0  # how many machines the plan launched when it found no room either
    spot_wait: SpotWait | None = None  # for which on demand has to wait


def in_order(snapshot: Snapshot) -> list[Task]:
    """What waits, the most urgent first: queues by priority, then as the fleet file has them, then their own order."""
    by_priority = sorted(snapshot.queues, key=lambda q: -q.priority)
    rank = {queue.name: place for place, queue in enumerate(by_priority)}
    return sorted(snapshot.tasks, key=lambda t: (rank[t.queue], t.position, t.id))


def choices_of(snapshot: Snapshot) -> dict[str, list[Choice]]:
    """Every offer of a known resource, by resource: its order, but what costs more for the same comes later."""
    resources = {r.name: r for r in snapshot.resources}
    pauses = Pauses([b for b in snapshot.backoffs if b.until > snapshot.at and not b.is_probing])
    found: dict[str, list[Choice]] = {}
    for each in snapshot.offers:
        if resource := resources.get(each.resource):
            offer, pause = with_known_price(each), pauses.of(each)
            choice = Choice(offer, resource, shape_of(offer), pause.reason if pause else None)
            found.setdefault(resource.name, []).append(choice)
    pools = pools_of(snapshot.pools)
    return {name: [several[n] for n in ordered([c.offer for c in several], pools)] for name, several in found.items()}


def fitting(fits: Fits, queue: Queue, choices: Mapping[str, Sequence[Choice]]) -> Iterator[Choice]:
    """What a queue may launch for this wish, its resources in order."""
    return (choice for name in queue.resources for choice in choices.get(name, ()) if fits[choice.shape])
