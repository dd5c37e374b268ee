"""What waits, in classes: tasks of one queue with the same wish. What no class needs to ask twice is kept here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleet.model import Backoff, Offer, Queue, Reason, Resource, Snapshot
from fleet.planner.capacity import Fits, Shape, Walk, shape_of
from fleet.planner.fairness import Order, is_fair, uses_of


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


def in_order(snapshot: Snapshot) -> Order:
    """What waits, one task after the other, whoever's turn it is."""
    uses = uses_of(snapshot.instances) if is_fair(snapshot.queues, snapshot.fairness) else ()
    return Order(snapshot.tasks, snapshot.queues, snapshot.fairness, uses)


def choices_of(snapshot: Snapshot) -> dict[str, list[Choice]]:
    """Every offer of a known resource, by resource, in its order."""
    resources = {r.name: r for r in snapshot.resources}
    backoffs: dict[str, list[Backoff]] = {}
    for backoff in snapshot.backoffs:
        if backoff.until > snapshot.at:
            backoffs.setdefault(backoff.resource, []).append(backoff)
    found: dict[str, list[Choice]] = {}
    for offer in snapshot.offers:
        if resource := resources.get(offer.resource):
            pause = next((b for b in backoffs.get(resource.name, ()) if b.covers(offer)), None)
            choice = Choice(offer, resource, shape_of(offer), pause.reason if pause else None)
            found.setdefault(resource.name, []).append(choice)
    return found


def fitting(fits: Fits, queue: Queue, choices: Mapping[str, Sequence[Choice]]) -> Iterator[Choice]:
    """What a queue may launch for this wish, its resources in order."""
    return (choice for name in queue.resources for choice in choices.get(name, ()) if fits[choice.shape])
