"""PURE: which GPUs a task gets, and why it gets none.

Whole GPUs for now; a task that asks for a fraction is told so. Two tasks never share a GPU, because what is held
never comes in as free. Among GPUs that would do, the least fragmenting are taken: those that leave the largest
aligned groups of neighbours whole, because a task of many GPUs runs fastest on neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.model import NOMINAL_MEMORY, Gpu, Queue, Task


def why_never(task: Task, gpus: Sequence[Gpu], queue: Queue) -> str | None:
    """Why `task` can never run on a machine with these GPUs, idle as it may be; None if it can."""
    need = task.need
    if need.at_least % 1 or need.at_most % 1:
        return f"needs {need} of a GPU; this version hands out whole GPUs only"
    if need.at_least > need.at_most:
        return f"needs at least {need.at_least:g} and at most {need.at_most:g} GPUs, which no machine can give"
    if not need.at_most:
        return "the queue has no slots for CPU tasks" if queue.slots == 0 else None
    suitable = len(_suitable(task, gpus))
    if suitable < need.at_least:
        return f"needs {need} GPUs{_wish(task)}; this machine has {suitable}"
    return None


def choose(task: Task, free: Sequence[Gpu], cpu_slots: int) -> tuple[Gpu, ...] | None:
    """The GPUs that `task` gets of those free now (none for a CPU task that has a slot); None: not now."""
    usable = _suitable(task, free)
    count = min(len(usable), int(task.need.at_most))
    if count < task.need.at_least:
        return None
    if not count:
        return () if cpu_slots > 0 else None
    return _least_fragmenting(usable, count)


def reserve(task: Task, free: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The free GPUs to keep for a task that cannot start yet, so that smaller ones behind it do not starve it."""
    usable = _suitable(task, free)
    count = min(len(usable), int(task.need.at_least))
    return _least_fragmenting(usable, count) if count else ()


def keep(free: Sequence[Gpu], count: int) -> tuple[Gpu, ...]:
    """So many of the free GPUs, or all there are, to keep for a task that is not to be seen yet."""
    return _least_fragmenting(free, min(count, len(free))) if free and count else ()


def free_cpu_slots(queue: Queue, queues: Sequence[Queue], cpu_tasks: Mapping[str, int], cpus: int) -> int:
    """How many more CPU tasks of `queue` may start; `cpu_tasks` counts those that run, by queue name.

    A queue with its own `slots` is counted alone; the others share one slot for each CPU.
    """
    if queue.slots is not None:
        return queue.slots - cpu_tasks.get(queue.name, 0)
    with_own_slots = {q.name for q in queues if q.slots is not None}
    return cpus - sum(count for name, count in cpu_tasks.items() if name not in with_own_slots)


def _suitable(task: Task, gpus: Sequence[Gpu]) -> list[Gpu]:
    return [
        gpu
        for gpu in gpus
        if (task.gpu_type is None or task.gpu_type.lower() in gpu.model.lower())
        and (task.gpu_memory_gib is None or gpu.memory_gib >= NOMINAL_MEMORY * task.gpu_memory_gib)
    ]


def _wish(task: Task) -> str:
    kind = f" of type {task.gpu_type}" if task.gpu_type else ""
    memory = f" with {task.gpu_memory_gib:g} GiB" if task.gpu_memory_gib else ""
    return kind + memory


def _least_fragmenting(usable: Sequence[Gpu], count: int) -> tuple[Gpu, ...]:
    """`count` of these, in the fullest aligned group of neighbours that has them; on a tie the smallest, lowest ones."""
    size = 1
    while size < count:
        size *= 2
    width = 1 + max(gpu.index for gpu in usable)
    while size < 2 * width:
        groups = [[g for g in usable if g.index // size == start] for start in range(-(-width // size))]
        enough = [group for group in groups if len(group) >= count]
        if enough:
            best = min(enough, key=lambda group: (_memory(group), _neighbours(group, usable, size, width)))
            return tuple(sorted(best, key=lambda g: (g.memory_gib, g.index))[:count])
        size *= 2
    return tuple(sorted(usable, key=lambda g: g.index)[:count])


def _memory(group: Sequence[Gpu]) -> float:
    """Large GPUs are kept for the tasks that ask for them."""
    return max(gpu.memory_gib for gpu in group)


def _neighbours(group: Sequence[Gpu], usable: Sequence[Gpu], size: int, width: int) -> tuple[int, ...]:
    """How many usable GPUs lie in ever larger groups around this one: few means that little is broken up."""
    first = group[0].index
    counts = [len(group)]
    while size < width:
        size *= 2
        counts.append(sum(1 for gpu in usable if gpu.index // size == first // size))
    return (*counts, first)
