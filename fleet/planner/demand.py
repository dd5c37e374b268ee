"""What waits, in classes: tasks of one queue with the same wish. What no class needs to ask twice is kept here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.model import Offer, Preference, Queue, Reason, Resource, Snapshot
from fleet.planner.capacity import Fits, Room, Shape, Walk, shape_of
from fleet.planner.fairness import Order, is_fair, uses_of
from fleet.planner.market import effective_price, pools_of, with_known_price
from fleet.planner.pauses import Pauses, SpotWait


@dataclass(frozen=True, slots=True)
class Choice:
    """An offer, and what there is to know of it before anybody asks for it."""

    place: int  # among all choices of a plan, in the order of the offers
    offer: Offer
    resource: Resource
    shape: Shape
    usd: float | None  # an hour of it, as plans reckon; None = unknown
    backoff: Reason | None  # why it may not be launched now


@dataclass(slots=True)
class Advice:
    """One machine of the cheapest mix, for classes that share it. Whoever of them comes first launches it."""

    choice: Choice
    seats: Mapping[int, int]  # by class: how many of it
    is_taken: bool = False


@dataclass(slots=True)
class Demand:
    """One class while a plan is made. Rooms only shrink and limits only tighten, so it never asks again what refused it."""

    kind: int  # its own number in this plan
    queue: Queue
    fits: Fits
    reason: Reason  # of what is launched for it
    walks: Sequence[Walk]  # through what is there, in the order of the queue's resources
    choices: Sequence[Choice]  # that can hold such a task, the best first
    ranks: Sequence[int]  # of the choices: one of a lower rank goes first, whatever it costs
    walks_first: Sequence[Walk] = ()  # before those: see `fleet.planner.capacity.on_nobodys_account`
    next_choice: int = 0
    advised: list[Advice] = field(default_factory=list)  # machines for it, and for others, the next one last
    refusal: Reason | None = None  # why it can get no machine
    refused_at: int = 0  # how many machines the plan launched when it found no room either
    walks_there: Sequence[Walk] | None = None  # as `walks`, but through machines that run alone
    spot_wait: SpotWait | None = None  # for which on demand has to wait

    def may_use(self, room: Room) -> bool:
        """Whether such a machine can ever run it, and serves its queue."""
        return room.offer.resource in self.queue.resources and self.fits[room.shape]

    def advice(self) -> Advice | None:
        """The machine to launch next for it, if no other class has done so."""
        while self.advised and self.advised[-1].is_taken:
            self.advised.pop()
        return self.advised[-1] if self.advised else None


def in_order(snapshot: Snapshot) -> Order:
    """What waits, one task after the other, whoever's turn it is."""
    uses = uses_of(snapshot.instances) if is_fair(snapshot.queues, snapshot.fairness) else ()
    return Order(snapshot.tasks, snapshot.queues, snapshot.fairness, uses)


def choices_of(snapshot: Snapshot) -> dict[str, list[Choice]]:
    """Every offer of a known resource, by resource: its order, but what costs more for the same comes later."""
    resources = {r.name: r for r in snapshot.resources}
    pauses = Pauses([b for b in snapshot.backoffs if b.until > snapshot.at and not b.is_probing])
    found: dict[str, list[Choice]] = {}
    pools = pools_of(snapshot.pools)
    for place, each in enumerate(snapshot.offers):
        if resource := resources.get(each.resource):
            offer, pause = with_known_price(each), pauses.of(each) if snapshot.backoffs else None
            why = pause.reason if pause else None
            choice = Choice(place, offer, resource, shape_of(offer), effective_price(offer, pools), why)
            found.setdefault(resource.name, []).append(choice)
    for several in found.values():
        several.sort(key=lambda c: (c.usd is None, c.usd or 0.0, c.place))
    return found


def ranked(fits: Fits, queue: Queue, choices: Mapping[str, Sequence[Choice]]) -> tuple[list[Choice], list[int]]:
    """What a queue may launch for this wish, the best first, and the rank of each: see `fleet.model.Preference`."""
    found = [
        (rank, choice.usd is None, choice.usd or 0.0, choice.shape.gpus, number, choice)
        for number, (rank, choice) in enumerate(rank_of(queue, choices))
        if fits[choice.shape]
    ]
    found.sort()
    return [each[5] for each in found], [each[0] for each in found]


def rank_of(queue: Queue, choices: Mapping[str, Sequence[Choice]]) -> Iterator[tuple[int, Choice]]:
    """What a queue may launch at all, with the rank of each."""
    first: dict[str | None, int] = {}  # GPU model -> the first of the queue's resources that has it
    for place, name in enumerate(queue.resources):
        for choice in choices.get(name, ()):
            if queue.order is Preference.AUTO:
                yield first.setdefault(choice.shape.gpu_model, place), choice
            else:
                yield (0 if queue.order is Preference.PRICE else place), choice
