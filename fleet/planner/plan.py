"""plan(snapshot): demand minus what is free or coming, per queue, its resources in order, within the limits.

Pure: the same snapshot gives the same plan, ids included. Every action and every non-action carries a Reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fleet.model import (
    Action,
    Backoff,
    InstanceState,
    Launch,
    Offer,
    Plan,
    Queue,
    Reason,
    Resource,
    Snapshot,
    Task,
    Waiting,
)
from fleet.planner.capacity import Room, TaskClass, class_of, empty_room, is_shape_fit, rooms_of
from fleet.planner.limits import Ledger
from fleet.planner.reaper import reap


def plan(snapshot: Snapshot) -> Plan:
    """What to launch and end now, and for every waiting task where it will go or why it must wait."""
    ends = reap(snapshot)
    ending = {e.instance for e in ends}
    draft = _Draft(
        snapshot, rooms_of([i for i in snapshot.instances if i.id not in ending], snapshot.queues), Ledger.of(snapshot)
    )
    priorities = {q.name: (-q.priority, n) for n, q in enumerate(snapshot.queues)}
    for task in sorted(snapshot.tasks, key=lambda t: (priorities[t.queue], t.position, t.id)):
        draft.place(task)
    draft.keep_minimum()
    actions: tuple[Action, ...] = (*ends, *draft.launches())
    return Plan(pass_id=snapshot.pass_id, at=snapshot.at, actions=actions, waiting=tuple(draft.waiting))


@dataclass(slots=True)
class _New:
    """A launch in the making."""

    room: Room
    reason: Reason
    tasks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a class of tasks can get no machine, and how many this plan launched when it found no room either."""

    reason: Reason
    rooms: int


class _Draft:
    """The plan while it is made. Rooms only shrink, so a class of tasks never looks at a room twice that refused it."""

    def __init__(self, snapshot: Snapshot, rooms: dict[str, list[Room]], ledger: Ledger) -> None:
        self.snapshot = snapshot
        self.rooms = rooms
        self.ledger = ledger
        self.queues = {q.name: q for q in snapshot.queues}
        self.resources = {r.name: r for r in snapshot.resources}
        self.offers: dict[str, list[Offer]] = {}
        for offer in snapshot.offers:
            self.offers.setdefault(offer.resource, []).append(offer)
        self.waiting: list[Waiting] = []
        self.new: dict[str, _New] = {}
        self._next_room: dict[tuple[TaskClass, str], int] = {}
        self._refused: dict[TaskClass, _Refused] = {}

    def place(self, task: Task) -> None:
        """Find room for a task that waits: free, coming, or launched for it; else say why not."""
        kind, queue = class_of(task), self.queues[task.queue]
        refused = self._refused.get(kind)
        # Since then no room was added that this class has not been refused: the next of it need not look.
        room = None if refused and refused.rooms == len(self.new) else self._existing(kind, queue)
        if room is None:
            found = refused.reason if refused else self._launch(kind, queue)
            if isinstance(found, Reason):
                self._refused[kind] = _Refused(found, len(self.new))
                self.waiting.append(Waiting(task=task.id, queue=task.queue, reason=_for(found, task)))
                return
            room = found
        if room.instance in self.new:
            self.new[room.instance].tasks.append(task.id)
        self.waiting.append(Waiting(task=task.id, queue=task.queue, reason=_where(room, task), instance=room.instance))

    def keep_minimum(self) -> None:
        """Launch what `min_instances` asks for beyond what demand has brought."""
        for resource in self.snapshot.resources:
            taking = len(self.rooms.get(resource.name, []))
            for _ in range(resource.min_instances - taking):
                limit = f"resources.{resource.name}.min_instances={resource.min_instances}"
                reason = Reason(code="min_instances", text=f"{limit} are kept at all times", limit=limit)
                offer = next((o for o in self._open_offers(resource)), None)
                if offer is None or self.ledger.refusal(offer, resource, None):
                    break
                self._add(offer, reason)

    def launches(self) -> Iterator[Launch]:
        for new in self.new.values():
            yield Launch(instance=new.room.instance, offer=new.room.offer, tasks=tuple(new.tasks), reason=_counted(new))

    def _existing(self, kind: TaskClass, queue: Queue) -> Room | None:
        for name in queue.resources:
            rooms = self.rooms.get(name, [])
            start = self._next_room.get((kind, name), 0)
            for index in range(start, len(rooms)):
                if rooms[index].take(kind, queue):
                    self._next_room[(kind, name)] = index
                    return rooms[index]
            self._next_room[(kind, name)] = len(rooms)
        return None

    def _launch(self, kind: TaskClass, queue: Queue) -> Room | Reason:
        """A new room for this class from the first resource that may give one, or the most telling refusal."""
        refusals: list[Reason] = []
        largest: tuple[int, str] | None = None
        for name in queue.resources:
            resource = self.resources[name]
            for offer in self.offers.get(name, []):
                largest = max(largest or (0, name), (offer.gpus, name))
                if not is_shape_fit(kind, offer.gpus, offer.gpu_model, offer.gpu_memory_gib):
                    continue
                refusal = self._backoff(offer) or self.ledger.refusal(offer, resource, queue)
                if refusal is None:
                    reason = Reason(code="demand", text="", queue=queue.name)
                    room = self._add(offer, reason)
                    room.take(kind, queue)
                    return room
                refusals.append(refusal)
        if refusals:
            return refusals[0]
        return _no_fit(kind, queue, largest)

    def _add(self, offer: Offer, reason: Reason) -> Room:
        instance = f"{self.snapshot.pass_id}-{len(self.new)}"
        room = empty_room(instance, offer, InstanceState.REQUESTED)
        self.rooms.setdefault(offer.resource, []).append(room)
        self.new[instance] = _New(room, reason)
        self.ledger.add(offer, reason.queue)
        return room

    def _open_offers(self, resource: Resource) -> Iterator[Offer]:
        return (o for o in self.offers.get(resource.name, []) if self._backoff(o) is None)

    def _backoff(self, offer: Offer) -> Reason | None:
        found: Backoff | None = next(
            (b for b in self.snapshot.backoffs if b.until > self.snapshot.at and b.covers(offer)), None
        )
        return found.reason if found else None


def _counted(new: _New) -> Reason:
    if new.reason.code != "demand":
        return new.reason
    if len(new.tasks) == 1:
        text = f"task {new.tasks[0]} waits in queue {new.reason.queue} and no instance has room for it"
    else:
        text = f"{len(new.tasks)} tasks wait in queue {new.reason.queue} and no instance has room for them"
    return Reason(code="demand", text=text, queue=new.reason.queue, task=new.tasks[0])


def _where(room: Room, task: Task) -> Reason:
    words = {
        InstanceState.REQUESTED: ("launching", "is being launched for it"),
        InstanceState.BOOTING: ("booting", "is booting and will have room for it"),
    }
    code, text = words.get(room.state, ("free", "has room for it"))
    return Reason(code=code, text=f"instance {room.instance} {text}", queue=task.queue, task=task.id)


def _for(reason: Reason, task: Task) -> Reason:
    return Reason(code=reason.code, text=reason.text, queue=task.queue, task=task.id, limit=reason.limit)


def _no_fit(kind: TaskClass, queue: Queue, largest: tuple[int, str] | None) -> Reason:
    if largest is None:
        names = ", ".join(queue.resources)
        text = f"none of its resources ({names}) has an offer now"
        return Reason(code="no_offer", text=text, queue=queue.name)
    if kind.at_least % 1:
        text = f"needs {kind.at_least:g} of a GPU; this version hands out whole GPUs only"
        return Reason(code="no_fit", text=text, queue=queue.name)
    wish = f"{kind.at_least:g} GPUs" if kind.at_least != 1 else "1 GPU"
    if kind.gpu_type:
        wish += f" of type {kind.gpu_type}"
    if kind.gpu_memory_gib:
        wish += f" with {kind.gpu_memory_gib:g} GiB each"
    text = f"needs {wish}; the largest of its resources ({largest[1]}) has {largest[0]}"
    if kind.at_least <= largest[0]:
        text = f"needs {wish}; none of its resources ({', '.join(queue.resources)}) has such GPUs"
    return Reason(code="no_fit", text=text, queue=queue.name)
