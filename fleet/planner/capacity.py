"""Room for tasks: what an instance, there or on its way, can still take. Counted once and only once."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fleet.model import NOMINAL_MEMORY, TAKING_TASKS, Gpu, Instance, InstanceState, Offer, Queue, Resource


class Wish(NamedTuple):
    """What a task asks of a machine. Tasks of one queue with the same wish are a class: what fits one fits the next."""

    at_least: float  # GPUs
    gpu_type: str | None
    gpu_memory_gib: float | None


class Shape(NamedTuple):
    """What a wish looks at in a machine."""

    gpus: int
    gpu_model: str | None
    gpu_memory_gib: float | None


def is_fit(wish: Wish, shape: Shape) -> bool:
    """Whether an empty machine of this shape can ever run such a task."""
    if wish.at_least % 1:
        return False  # supervisors hand out whole GPUs: a machine launched for a part of one would never be used
    if wish.at_least > shape.gpus:
        return False
    if wish.at_least == 0:
        return True
    if wish.gpu_type and wish.gpu_type.lower() not in (shape.gpu_model or "").lower():
        return False
    return wish.gpu_memory_gib is None or NOMINAL_MEMORY * wish.gpu_memory_gib <= (shape.gpu_memory_gib or 0.0)


class Fits(dict[Shape, bool]):
    """`is_fit` of one wish, decided once for each shape: there are few of them, and many machines."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish

    def __missing__(self, shape: Shape) -> bool:
        found = self[shape] = is_fit(self.wish, shape)
        return found


@dataclass(slots=True)
class Room:
    """What one instance can still take. Only ever shrinks while a plan is made."""

    instance: str
    offer: Offer
    state: InstanceState  # REQUESTED stands for one that this plan launches, too
    shape: Shape
    free_gpus: float
    shared_cpu_tasks: int = 0  # of queues without slots of their own: they share one slot for each CPU
    own_cpu_tasks: Mapping[str, int] | None = None  # of queues with slots, by name
    kept_gpus: float = 0  # of those that were free, for a task that has this instance held
    kept_for: str | None = None
    tasks: list[str] | None = None  # for which this plan launches it; None: it is there

    def take(self, at_least: float, queue: Queue) -> bool:
        """Reserve room for one task, which fits the shape; False: there is none left for it."""
        if at_least == 0:
            return self._take_slot(queue)
        if at_least > self.free_gpus:
            return False
        self.free_gpus -= at_least
        return True

    def keep_for(self, task: str) -> None:
        """All that is free, and what gets free, is for this task."""
        self.kept_gpus, self.kept_for, self.free_gpus = self.free_gpus, task, 0

    def _take_slot(self, queue: Queue) -> bool:
        """As `fleet.supervisor.allocation.free_cpu_slots` counts them."""
        if queue.slots is None:
            if self.shared_cpu_tasks >= max(self.offer.cpus, 1):
                return False
            self.shared_cpu_tasks += 1
            return True
        own = self.own_cpu_tasks or {}
        taken = own.get(queue.name, 0)
        if taken >= queue.slots:
            return False
        self.own_cpu_tasks = {**own, queue.name: taken + 1}
        return True


@dataclass(slots=True)
class Walk:
    """One class on its way through the rooms of one resource. Rooms only shrink: what refused it once is not asked again."""

    rooms: Sequence[Room]  # grows at its end while the plan adds machines
    place: int = 0

    def take(self, fits: Fits, queue: Queue) -> Room | None:
        """Room for one more task; None: these rooms, as far as there are any yet, have none."""
        at_least = fits.wish.at_least
        for place in range(self.place, len(self.rooms)):
            room = self.rooms[place]
            if at_least and at_least > room.free_gpus:
                continue  # asked first, because most machines are full
            if fits[room.shape] and room.take(at_least, queue):
                self.place = place
                return room
        self.place = len(self.rooms)
        return None


def shape_of(offer: Offer) -> Shape:
    """What a machine of this offer will look like."""
    return Shape(offer.gpus, offer.gpu_model, offer.gpu_memory_gib)


def room_of(instance: Instance, state: InstanceState, with_own_slots: Container[str]) -> Room:
    """The room left on an instance in this state, which takes tasks: of one that boots all that its offer promises, but
    one that has enrolled is what it says it is."""
    shape = shape_of(instance.offer)
    if instance.enrolled_at:
        shape = _shape_as_seen(instance.gpus, shape.gpu_model, shape.gpu_memory_gib)
    room = Room(instance.id, instance.offer, state, shape, shape.gpus)
    for allocation in instance.allocations:
        room.free_gpus -= len(allocation.gpus)
        if not allocation.gpus and allocation.queue in with_own_slots:
            own = room.own_cpu_tasks or {}
            room.own_cpu_tasks = {**own, allocation.queue: own.get(allocation.queue, 0) + 1}
        elif not allocation.gpus:
            room.shared_cpu_tasks += 1
    return room


def _shape_as_seen(gpus: Sequence[Gpu], model: str | None, memory_gib: float | None) -> Shape:
    """That of a machine which says what it has; `model` and `memory_gib` are for one that has none."""
    if gpus:
        model, memory_gib = gpus[0].model, min([g.memory_gib for g in gpus])
    return Shape(len(gpus), model, memory_gib)


def rooms_of(
    instances: Sequence[Instance], resources: Sequence[Resource], queues: Sequence[Queue]
) -> dict[str, list[Room]]:
    """Room by resource: fullest first, so that empty machines may become idle and end; those that run before those that boot."""
    rooms: dict[str, list[Room]] = {r.name: [] for r in resources}
    with_own_slots = {q.name for q in queues if q.slots is not None}
    for instance in instances:
        state = instance.state
        several = rooms.get(instance.offer.resource)
        if several is not None and state in TAKING_TASKS:
            several.append(room_of(instance, state, with_own_slots))
    running = (InstanceState.READY, InstanceState.BUSY)
    for several in rooms.values():
        several.sort(key=lambda r: (r.state not in running, r.free_gpus, -r.shared_cpu_tasks, r.instance))
    return rooms
