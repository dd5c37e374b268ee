"""Room for tasks: what an instance, there or on its way, can still take. Counted once and only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.model import TAKING_TASKS, Instance, InstanceState, Offer, Queue, Task


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
    return kind.gpu_memory_gib is None or kind.gpu_memory_gib <= (gpu_memory_gib or 0.0)


@dataclass(slots=True)
class Room:
    """What one instance can still take. Only ever shrinks while a plan is made."""

    instance: str
    offer: Offer
    state: InstanceState  # REQUESTED stands for one that this plan launches, too
    free_gpus: float
    cpu_tasks: int = 0

    def take(self, kind: TaskClass, queue: Queue) -> bool:
        """Reserve room for one task; False: it does not fit (any more)."""
        offer = self.offer
        if not is_shape_fit(kind, offer.gpus, offer.gpu_model, offer.gpu_memory_gib):
            return False
        if kind.at_least == 0:
            if self.cpu_tasks >= slots_of(queue, offer.cpus):
                return False
            self.cpu_tasks += 1
            return True
        if kind.at_least > self.free_gpus:
            return False
        self.free_gpus -= kind.at_least
        return True


def slots_of(queue: Queue, cpus: int) -> int:
    """How many tasks without GPUs one instance runs at once for this queue."""
    return queue.slots if queue.slots is not None else max(cpus, 1)


def room_of(instance: Instance, state: InstanceState) -> Room:
    """The room left on an instance in this state, which takes tasks. One that boots has all its GPUs free."""
    held, cpu_tasks = 0, 0
    for allocation in instance.allocations:
        held += len(allocation.gpus)
        cpu_tasks += not allocation.gpus
    total = len(instance.gpus) if instance.enrolled_at else instance.offer.gpus
    return Room(instance.id, instance.offer, state, total - held, cpu_tasks)


def rooms_of(instances: Sequence[Instance]) -> dict[str, list[Room]]:
    """Room by resource: fullest first, so that empty machines may become idle and end; those that run before those that boot."""
    rooms: dict[str, list[Room]] = {}
    for instance in instances:
        state = instance.state
        if state in TAKING_TASKS:
            rooms.setdefault(instance.offer.resource, []).append(room_of(instance, state))
    running = (InstanceState.READY, InstanceState.BUSY)
    for several in rooms.values():
        several.sort(key=lambda r: (r.state not in running, r.free_gpus, -r.cpu_tasks, r.instance))
    return rooms
