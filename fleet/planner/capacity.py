"""Room for tasks: what an instance, there or on its way, can still take. Counted once and only once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

from fleet.model import (
    NOMINAL_MEMORY,
    PARTS_OF_A_GPU,
    Allocation,
    Gpu,
    Instance,
    InstanceState,
    Offer,
    Queue,
    in_parts,
    is_gpu_type,
)


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
    mig: int = 0  # MIG devices besides: each is for one task of one GPU


def is_fit(wish: Wish, shape: Shape) -> bool:
    """Whether an empty machine of this shape can ever run such a task."""
    if wish.at_least > shape.gpus and not (wish.at_least == 1 and shape.mig):
        return False
    if 0 < wish.at_least < 1 and not shape.gpus:
        return False
    if wish.at_least == 0:
        return True
    if not is_gpu_type(wish.gpu_type, shape.gpu_model):
        return False
    if wish.gpu_memory_gib is None:
        return True
    return NOMINAL_MEMORY * wish.gpu_memory_gib <= min(wish.at_least, 1.0) * (shape.gpu_memory_gib or 0.0)


class Fits(dict[Shape, bool]):
    """`is_fit` of one wish, decided once for each shape: there are few of them, and many machines."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.part = in_parts(wish.at_least) if 0 < wish.at_least < 1 else 0  # of one GPU, if it asks for a part

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
    free_gpus: float  # whole ones
    parts: list[int] | None = None  # free ten-thousandths of each GPU that is shared, fewest first; None: of none
    shared_cpu_tasks: int = 0  # of queues without slots of their own: they share one slot for each CPU
    own_cpu_tasks: Mapping[str, int] | None = None  # of queues with slots, by name
    kept_gpus: float = 0  # whole ones that were free, for a task that has this instance held
    kept_parts: Sequence[
        int
    ] = ()  # as `parts`: of the GPUs that are shared and that nobody new comes onto, for its sake
    kept_for: str | None = None
    tasks: list[str] | None = None  # for which this plan launches it; None: it is there
    above_gpus: Mapping[str, float] | None = None  # by queue: smaller tasks have cheaper machines (see `worth`)
    seats: dict[int, int] | None = None  # launched by this plan for a mix: by class, how many of it are to come
    launched_for: Sequence[str] = ()  # the tasks that it was launched for, as long as it is on its way
    free_mig: int = 0  # MIG devices

    @property
    def is_full(self) -> bool:
        """Nothing is left of any GPU."""
        return self.free_gpus <= 0 and not self.parts and self.free_mig <= 0

    def take(self, wish: Wish, queue: Queue, kind: int) -> bool:
        """Reserve room for one task of class `kind`, which fits the shape; False: there is none left for it."""
        if self.seats is not None and wish.at_least:
            if not self.seats.get(kind) or not self.seat(wish.at_least, queue):
                return False
            self.seats[kind] -= 1
            return True
        if self.above_gpus and self.is_above(wish, queue.name):
            return False
        return self.seat(wish.at_least, queue)

    def seat(self, at_least: float, queue: Queue) -> bool:
        """The same for any task that fits the shape, whomever the machine is for."""
        if not at_least:
            return self._take_slot(queue)
        if at_least < 1:
            return self._take_part(in_parts(at_least))
        if at_least == 1 and self.free_mig:
            self.free_mig -= 1
            return True
        if at_least > self.free_gpus:
            return False
        self.free_gpus -= at_least
        return True

    def is_above(self, wish: Wish, queue: str) -> bool:
        """Whether such a task is too small for this machine. One with wishes of its own may have no other."""
        if not self.above_gpus or wish.gpu_type or wish.gpu_memory_gib:
            return False
        return wish.at_least <= self.above_gpus.get(queue, -1.0)

    def _take_part(self, part: int) -> bool:
        """Of the fullest GPU that still has room for it, as supervisors choose it."""
        parts = self.parts = self.parts or []
        place = bisect_left(parts, part)
        if place < len(parts):
            left = parts.pop(place) - part
        elif self.free_gpus >= 1:
            self.free_gpus -= 1
            left = PARTS_OF_A_GPU - part
        else:
            return False
        if left:
            insort(parts, left)
        return True

    def keep_for(self, task: str, at_least: float) -> None:
        """As many GPUs as it needs are for this task: those that are free, then shared ones, the emptiest first. What gets
        free of the others is for it, too. As `fleet.supervisor.allocation.reserve` chooses them."""
        self.kept_for = task
        self.kept_gpus = min(self.free_gpus, ceil(at_least))
        self.free_gpus -= self.kept_gpus
        missing = ceil(at_least) - int(self.kept_gpus)
        if self.parts and missing:
            self.kept_parts, self.parts = self.parts[-missing:], self.parts[:-missing]

    def anew(self) -> Room:
        """As it was before anybody took of it; `self` is as `room_of` made it. Each plan asks this of every machine, and
        without arguments it takes a third of the time."""
        room = Room.__new__(Room)
        room.instance, room.offer, room.state, room.shape = self.instance, self.offer, self.state, self.shape
        room.free_gpus, room.free_mig = self.free_gpus, self.free_mig
        room.parts = None if self.parts is None else list(self.parts)
        room.shared_cpu_tasks, room.own_cpu_tasks = self.shared_cpu_tasks, self.own_cpu_tasks
        room.kept_gpus, room.kept_parts, room.kept_for = 0, (), None
        room.tasks = room.above_gpus = room.seats = None
        room.launched_for = ()
        return room

    def trial(self) -> Room:
        """To try on it who would get its GPUs."""
        parts = list(self.parts) if self.parts else None
        return Room(
            self.instance,
            self.offer,
            self.state,
            self.shape,
            self.free_gpus,
            parts=parts,
            above_gpus=self.above_gpus,
            launched_for=self.launched_for,
            free_mig=self.free_mig,
        )

    def could_keep(self, at_least: float) -> float:
        """What `keep_for` would keep free of all that such a task needs, in GPUs."""
        missing = max(ceil(at_least) - int(self.free_gpus), 0)
        shared = sum(self.parts[-missing:]) if self.parts and missing else 0
        return self.free_gpus + shared / PARTS_OF_A_GPU

    def release(self) -> None:
        """What was kept is for whoever comes."""
        self.free_gpus += self.kept_gpus
        if self.kept_parts:
            self.parts = sorted((*(self.parts or ()), *self.kept_parts))
        self.kept_for, self.kept_gpus, self.kept_parts = None, 0, ()

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

    def take(self, fits: Fits, queue: Queue, kind: int) -> Room | None:
        """Room for one more task of class `kind`; None: these rooms, as far as there are any yet, have none."""
        at_least = fits.wish.at_least
        part = fits.part
        for place in range(self.place, len(self.rooms)):
            room = self.rooms[place]
            # Asked first, because most machines are full.
            if part:
                if room.free_gpus < 1 and (not room.parts or part > room.parts[-1]):
                    continue
            elif at_least and at_least > room.free_gpus and not (at_least == 1 and room.free_mig):
                continue
            if fits[room.shape] and room.take(fits.wish, queue, kind):
                self.place = place
                return room
        self.place = len(self.rooms)
        return None


def on_nobodys_account(rooms: Mapping[str, Sequence[Room]]) -> dict[str, list[Room]]:
    """Those that were not launched for tasks that wait: whoever has no machine on its way looks there first. Were it to take
    another's while there is other room, one more would be launched for that one."""
    return {name: [room for room in several if not room.launched_for] for name, several in rooms.items()}


def shape_of(offer: Offer) -> Shape:
    """What a machine of this offer will look like."""
    return Shape(offer.gpus, offer.gpu_model, offer.gpu_memory_gib)


def room_of(instance: Instance, state: InstanceState, with_own_slots: Container[str]) -> Room:
    """The room left on an instance in this state, which takes tasks: of one that boots all that its offer promises, but
    one that has enrolled is what it says it is."""
    offer = instance.offer
    if instance.enrolled_at:
        healthy = instance.gpus
        if any(gpu.sick for gpu in healthy):
            healthy = tuple(gpu for gpu in healthy if not gpu.sick)
            instance = replace(instance, gpus=healthy, allocations=_on(healthy, instance.allocations))
        shape = _shape_as_seen(healthy, offer.gpu_model, offer.gpu_memory_gib)
    else:
        shape = shape_of(offer)
    room = Room(instance.id, instance.offer, state, shape, shape.gpus, free_mig=shape.mig)
    mig = {gpu.uuid for gpu in instance.gpus if gpu.is_mig}
    shares = []
    for allocation in instance.allocations:
        if allocation.share is not None:
            shares.append(allocation)
            continue
        if mig.isdisjoint(allocation.gpus):
            room.free_gpus -= len(allocation.gpus)
        else:
            room.free_mig -= 1
        if not allocation.gpus and allocation.queue in with_own_slots:
            own = room.own_cpu_tasks or {}
            room.own_cpu_tasks = {**own, allocation.queue: own.get(allocation.queue, 0) + 1}
        elif not allocation.gpus:
            room.shared_cpu_tasks += 1
    if shares:
        room.parts = _free_parts(shares, {gpu.uuid for gpu in instance.gpus if gpu.set_aside})
        room.free_gpus -= len({gpu for allocation in shares for gpu in allocation.gpus})
    held = {gpu for allocation in instance.allocations for gpu in allocation.gpus}
    for gpu in instance.gpus:
        if gpu.set_aside and gpu.uuid not in held:
            room.free_mig -= gpu.is_mig
            room.free_gpus -= not gpu.is_mig
    return room


def _on(gpus: Sequence[Gpu], allocations: Sequence[Allocation]) -> tuple[Allocation, ...]:
    """What is held of these GPUs alone: the others, out of service, are no room, whoever holds them for a moment still."""
    uuids = {gpu.uuid for gpu in gpus}
    left = (replace(a, gpus=tuple(gpu for gpu in a.gpus if gpu in uuids)) for a in allocations)
    return tuple(new for new, old in zip(left, allocations, strict=True) if new.gpus or not old.gpus)


def _free_parts(shares: Sequence[Allocation], set_aside: Container[str]) -> list[int]:
    """What is left of each GPU that these hold parts of and that is not set aside, in ten-thousandths, fewest first."""
    left: dict[str, int] = {}
    for allocation in shares:
        for gpu in allocation.gpus:
            left[gpu] = left.get(gpu, PARTS_OF_A_GPU) - in_parts(allocation.share or 0.0)
    return sorted(parts for gpu, parts in left.items() if parts > 0 and gpu not in set_aside)


def _shape_as_seen(gpus: Sequence[Gpu], model: str | None, memory_gib: float | None) -> Shape:
    """That of a machine which says what it has; `model` and `memory_gib` are for one that has none."""
    whole = [gpu for gpu in gpus if not gpu.is_mig]
    if gpus:
        model, memory_gib = (whole or gpus)[0].model, min([g.memory_gib for g in whole or gpus])
    return Shape(len(whole), model, memory_gib, len(gpus) - len(whole))
