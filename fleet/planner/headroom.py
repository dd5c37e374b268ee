"""Headroom: room for so many more tasks of a queue, free or coming, after all that waits has got its own."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from fleet.model import InstanceState, Queue, Reason
from fleet.planner.capacity import Room, Walk, Wish
from fleet.planner.demand import Demand
from fleet.planner.schedule import key_of

RUNNING = (InstanceState.READY, InstanceState.BUSY)


def wish_of(queue: Queue) -> Wish:
    """What a task of the queue asks for when it says nothing itself."""
    return Wish(queue.need.at_least, queue.gpu_type, queue.gpu_memory_gib)


def wanted_by(queues: Sequence[Queue]) -> list[Queue]:
    """The queues that want headroom, the most urgent first."""
    return sorted((q for q in queues if q.headroom), key=lambda q: -q.priority)


def demand_of(demand: Demand, kept: Container[str]) -> Demand:
    """The class of a queue's headroom, made of the class of its tasks: it looks first into what stays anyway."""
    queue = demand.queue
    limit = f"{key_of(queue, f'queues.{queue.name}', 'headroom')}={queue.headroom}"
    text = f"{limit}: room for so many more of its tasks is kept"
    reason = Reason(code="headroom", text=text, queue=queue.name, limit=limit)
    walks = [Walk(_in_order_of_use(walk.rooms, kept)) for walk in demand.walks]
    return replace(demand, reason=reason, walks=walks)


def place(demand: Demand, launch: Callable[[Demand], Room | None]) -> Iterator[Room]:
    """The rooms that serve as this headroom, launched if need be; fewer than it wants where limits do not allow more."""
    new: list[Room] = []
    walks = (*demand.walks, Walk(new))
    for _ in range(demand.queue.headroom):
        found = (room for walk in walks if (room := walk.take(demand.fits, demand.queue, demand.kind)))
        room = next(found, None)
        if room is None:
            room = launch(demand)
            if room is None:
                return
            new.append(room)
        yield room


def yields_to(queue: Queue, limits: Iterable[str]) -> str | None:
    """The limit at which a task waits and that this queue's headroom counts against: then it is not kept. None: no such."""
    shared = ("budget.", f"queues.{queue.name}.", *(f"resources.{name}." for name in queue.resources))
    return next((limit for limit in limits if limit.startswith(shared)), None)


def not_kept(queue: Queue, count: int, refusal: Reason | None, limit: str | None) -> Reason:
    """Why there is less headroom than wanted: a limit refuses a machine, or tasks wait at one that comes first."""
    why = f"tasks wait at {limit}, and they come first" if limit else refusal.text if refusal else "nothing is on offer"
    text = f"queue {queue.name} has headroom for {count} of {queue.headroom} tasks: {why}"
    return Reason(code="headroom", text=text, queue=queue.name, limit=limit or (refusal.limit if refusal else None))


def _in_order_of_use(rooms: Sequence[Room], kept: Container[str]) -> list[Room]:
    """Those that stay anyway first, so that as few as can be are kept for this alone; what runs before what boots."""
    return sorted(rooms, key=lambda r: (r.state not in RUNNING, _is_empty(r) and r.instance not in kept))


def _is_empty(room: Room) -> bool:
    own: Mapping[str, int] = room.own_cpu_tasks or {}
    has_all = (room.free_gpus, room.free_mig) == (room.shape.gpus, room.shape.mig)
    return has_all and not room.parts and not room.shared_cpu_tasks and not any(own.values())
