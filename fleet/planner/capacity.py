"""Room for tasks: what an instance, there or on its way, can still take. Counted once and only once."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from fleet.model import NOMINAL_MEMORY, TAKING_TASKS, Instance, InstanceState, Offer, Queue, Task


@dataclass(frozen=True, slots=True)
class TaskClass:
    """Tasks that no planner need tell apart: what fits one of them fits the next."""

    queue: str
    at_least: float
    gpu_type: str | None
    gpu_memory_gib: float | None


def class_of(task: Task) -> TaskClass:
    """The class of a task."""
    return TaskClass(task.queue, task.need.at_least, task.gpu_type, task.gpu_memory_gib)


def is_shape_fit(kind: TaskClass, gpus: int, gpu_model: str | None, gpu_memory_gib: float | None) -> bool:
    """Whether an empty machine of this shape can ever run such a task."""
    if kind.at_least % 1:
        return False  # supervisors hand out whole GPUs: a machine launched for a part of one would never be used
    if kind.at_least > gpus:
        return False
    if kind.at_least == 0:
        return True
    if kind.gpu_type and kind.gpu_type.lower() not in (gpu_model or "").lower():
        return False
    return kind.gpu_memory_gib is None or NOMINAL_MEMORY * kind.gpu_memory_gib <= (gpu_memory_gib or 0.0)


@dataclass(slots=True)
class Room:
    """What one instance can still take. Only ever shrinks while a plan is made."""

    instance: str
    offer: Offer
    state: InstanceState  # REQUESTED stands for one that this plan launches, too
    gpus: int
    gpu_model: str | None
    gpu_memory_gib: float | None
    free_gpus: float
    shared_cpu_tasks: int = 0  # of queues without slots of their own: they share one slot for each CPU
    own_cpu_tasks: dict[str, int] = field(default_factory=dict)  # of queues with slots, by name

    def take(self, kind: TaskClass, queue: Queue) -> bool:
        """Reserve room for one task; False: it does not fit (any more)."""
        if not is_shape_fit(kind, self.gpus, self.gpu_model, self.gpu_memory_gib):
            return False
        if kind.at_least == 0:
            return self._take_slot(queue)
        if kind.at_least > self.free_gpus:
            return False
        self.free_gpus -= kind.at_least
        return True

    def _take_slot(self, queue: Queue) -> bool:
        """As `fleet.supervisor.allocation.free_cpu_slots` counts them."""
        if queue.slots is None:
            if self.shared_cpu_tasks >= max(self.offer.cpus, 1):
                return False
            self.shared_cpu_tasks += 1
            return True
        taken = self.own_cpu_tasks.get(queue.name, 0)
        if taken >= queue.slots:
            return False
        self.own_cpu_tasks[queue.name] = taken + 1
        return True


def empty_room(instance: str, offer: Offer, state: InstanceState) -> Room:
    """All of a machine that boots, or is to be launched: what its offer promises."""
    return Room(instance, offer, state, offer.gpus, offer.gpu_model, offer.gpu_memory_gib, offer.gpus)


def room_of(instance: Instance, state: InstanceState, with_own_slots: Container[str]) -> Room:
    """The room left on an instance in this state, which takes tasks. One that has enrolled is what it says it is."""
    room = empty_room(instance.id, instance.offer, state)
    if instance.enrolled_at:
        room.gpus = room.free_gpus = len(instance.gpus)
    for allocation in instance.allocations:
        room.free_gpus -= len(allocation.gpus)
        if not allocation.gpus and allocation.queue in with_own_slots:
            room.own_cpu_tasks[allocation.queue] = room.own_cpu_tasks.get(allocation.queue, 0) + 1
        elif not allocation.gpus:
            room.shared_cpu_tasks += 1
    if instance.enrolled_at and instance.gpus and room.free_gpus > 0:  # of a full one nobody will ask
        room.gpu_model = instance.gpus[0].model
        room.gpu_memory_gib = min(g.memory_gib for g in instance.gpus)
    return room


def rooms_of(instances: Sequence[Instance], queues: Sequence[Queue]) -> dict[str, list[Room]]:
    """Room by resource: fullest first, so that empty machines may become idle and end; those that run before those that boot."""
    rooms: dict[str, list[Room]] = {}
    with_own_slots = {q.name for q in queues if q.slots is not None}
    for instance in instances:
        state = instance.state
        if state in TAKING_TASKS:
            rooms.setdefault(instance.offer.resource, []).append(room_of(instance, state, with_own_slots))
    running = (InstanceState.READY, InstanceState.BUSY)
    for several in rooms.values():
        several.sort(key=lambda r: (r.state not in running, r.free_gpus, -r.shared_cpu_tasks, r.instance))
    return rooms
