"""PURE: which GPUs a task gets, and why it gets none.

A task of whole GPUs gets them for itself alone. A task of a part of one goes to the fullest GPU that still has room for
it, so that the others stay whole; what all hold of one GPU is never more than one. Which of several whole GPUs it is, is
for `fleet.supervisor.groups` to say. A MIG device is a small GPU for a task of one, and is held whole: a program can use
one of them alone, so that a task of more GPUs gets none, and their walls are the hardware's, so that there are no parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.model import NOMINAL_MEMORY, PARTS_OF_A_GPU, Gpu, GpuNeed, Queue, Task, in_parts, is_gpu_type
from fleet.supervisor.groups import Links, best_group


@dataclass(slots=True)
class Free:
    """What is left to give of a machine's GPUs. Only ever shrinks while claims are made of it."""

    whole: list[Gpu]  # of which nobody holds anything
    shared: dict[Gpu, int] = field(default_factory=dict)  # of which some hold parts -> ten-thousandths that nobody does
    links: Links = field(default_factory=dict)  # how near they are to each other

    @classmethod
    def of(
        cls, gpus: Sequence[Gpu], held: Iterable[tuple[Sequence[str], float | None]], links: Links | None = None
    ) -> Free:
        """`held`: the uuids that each task holds, and its share where it is a part of one. What is set aside is for nobody."""
        taken: dict[str, int] = {}
        for uuids, share in held:
            for uuid in uuids:
                taken[uuid] = taken.get(uuid, 0) + (PARTS_OF_A_GPU if share is None else in_parts(share))
        usable = [gpu for gpu in gpus if gpu.set_aside is None]
        shared = {g: left for g in usable if g.uuid in taken and (left := PARTS_OF_A_GPU - taken[g.uuid]) > 0}
        return cls([g for g in usable if g.uuid not in taken], shared, links or {})

    def take(self, need: GpuNeed, chosen: Sequence[Gpu]) -> None:
        """These were chosen for such a task."""
        for gpu in chosen:
            left = self.shared.pop(gpu, PARTS_OF_A_GPU) - (
                PARTS_OF_A_GPU if need.share is None else in_parts(need.share)
            )
            if left > 0:
                self.shared[gpu] = left
        self.whole = [gpu for gpu in self.whole if gpu not in chosen]

    def keep(self, kept: Sequence[Gpu]) -> None:
        """What is free of these is for nobody who comes later."""
        self.whole = [gpu for gpu in self.whole if gpu not in kept]
        for gpu in kept:
            self.shared.pop(gpu, None)


def why_never(task: Task, gpus: Sequence[Gpu], queue: Queue) -> str | None:
    """Why `task` can never run on a machine with these GPUs, idle as it may be; None if it can."""
    need = task.need
    if need.at_least > need.at_most:
        return f"needs at least {need.at_least:g} and at most {need.at_most:g} GPUs, which no machine can give"
    share = need.share
    if (need.at_least % 1 or need.at_most % 1) and (share is None or need.at_most != share):
        return f"needs {need} GPUs; parts are of one GPU alone"
    if not need.at_most:
        return "the queue has no slots for CPU tasks" if queue.slots == 0 else None
    suitable = len(_suitable(task, gpus))
    if share is not None:
        return None if suitable else f"needs {need} of a GPU{_wish(task)}; this machine has none"
    if suitable < need.at_least:
        besides = "; of its MIG devices a task can use one alone" if any(gpu.is_mig for gpu in gpus) else ""
        return f"needs {need} GPUs{_wish(task)}; this machine has {suitable}{besides}"
    return None


def choose(task: Task, free: Free, cpu_slots: int) -> tuple[Gpu, ...] | None:
    """The GPUs that `task` needs, of those free now (none for a CPU task that has a slot); None: not now."""
    usable = _suitable(task, free.whole)
    if task.need.share is not None:
        fullest = _fullest(task, free)
        return (fullest,) if fullest else best_group(usable, 1, free.links) if usable else None
    count = int(task.need.at_least)
    if not count:
        return () if cpu_slots > 0 else None
    usable = [gpu for gpu in usable if gpu.is_mig] or usable  # whole GPUs are kept for the tasks that need them
    return best_group(usable, count, free.links) if count <= len(usable) else None


def grow(task: Task, chosen: tuple[Gpu, ...], free: Free) -> tuple[Gpu, ...]:
    """What a task of `1-4` gets in the end: as many as are left when all behind it have got, or keep, what they need.

    The planner counts on what tasks need; who took all at once would leave the others to machines of their own.
    """
    if task.need.at_most <= len(chosen) or task.need.share is not None or any(gpu.is_mig for gpu in chosen):
        return chosen
    usable = [gpu for gpu in _suitable(task, [*chosen, *free.whole]) if not gpu.is_mig]
    if len(usable) <= len(chosen):
        return chosen
    grown = best_group(usable, min(len(usable), int(task.need.at_most)), free.links)
    free.whole = [gpu for gpu in (*chosen, *free.whole) if gpu not in grown]
    return grown


def reserve(task: Task, free: Free) -> tuple[Gpu, ...]:
    """The free GPUs to keep for a task that cannot start yet, so that smaller ones behind it do not starve it.

    Where whole ones are not enough, also GPUs that are shared now, the emptiest first: nobody new comes onto them.
    """
    wanted = 1 if task.need.share is not None else int(task.need.at_least)
    usable = _suitable(task, free.whole)
    count = min(len(usable), wanted)
    kept = best_group(usable, count, free.links) if count else ()
    shared = sorted(_suitable(task, tuple(free.shared)), key=lambda gpu: (-free.shared[gpu], gpu.index))
    return (*kept, *shared[: wanted - count])


def keep(free: Free, count: int) -> tuple[Gpu, ...]:
    """So many of the free GPUs, or all there are, to keep for a task that is not to be seen yet."""
    usable = [gpu for gpu in free.whole if not gpu.is_mig]
    return best_group(usable, min(count, len(usable)), free.links) if usable and count else ()


def free_cpu_slots(queue: Queue, queues: Sequence[Queue], cpu_tasks: Mapping[str, int], cpus: int) -> int:
    """How many more CPU tasks of `queue` may start; `cpu_tasks` counts those that run, by queue name.

    A queue with its own `slots` is counted alone; the others share one slot for each CPU.
    """
    if queue.slots is not None:
        return queue.slots - cpu_tasks.get(queue.name, 0)
    with_own_slots = {q.name for q in queues if q.slots is not None}
    return cpus - sum(count for name, count in cpu_tasks.items() if name not in with_own_slots)


def _suitable(task: Task, gpus: Sequence[Gpu]) -> list[Gpu]:
    if task.need.at_least != 1:
        gpus = [gpu for gpu in gpus if not gpu.is_mig]
    if task.gpu_type is None and task.gpu_memory_gib is None:
        return list(gpus)
    share = task.need.share or 1.0
    return [
        gpu
        for gpu in gpus
        if is_gpu_type(task.gpu_type, gpu.model)
        and (task.gpu_memory_gib is None or share * gpu.memory_gib >= NOMINAL_MEMORY * task.gpu_memory_gib)
    ]


def _wish(task: Task) -> str:
    kind = f" of type {task.gpu_type.replace('|', ' or ')}" if task.gpu_type else ""
    memory = f" with {task.gpu_memory_gib:g} GiB" if task.gpu_memory_gib else ""
    return kind + memory


def _fullest(task: Task, free: Free) -> Gpu | None:
    """The shared GPU that has room for this part and least room besides."""
    part = in_parts(task.need.at_least)
    roomy = _suitable(task, [gpu for gpu, left in free.shared.items() if left >= part])
    return min(roomy, key=lambda gpu: (free.shared[gpu], gpu.memory_gib, gpu.index), default=None)
