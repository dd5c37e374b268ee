"""PURE: which of the waiting tasks this machine takes, on which GPUs, and how deep it looks for them."""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime, timedelta

from fleet.model import Gpu, Queue, Task
from fleet.supervisor import allocation
from fleet.supervisor.instructions import Claim
from fleet.supervisor.precedence import opens_at
from fleet.supervisor.situation import FailedStart, Policy, State
from fleet.supervisor.turns import Turn, is_out_of_sight

FIRST_LOOK = 20  # tasks of each queue: more than a machine can start at once
DEEPEST_LOOK = 20_000
START_AGAIN_AFTER = timedelta(seconds=2)  # times the number of failures


def to_claim(state: State, policy: Policy) -> tuple[Claim, ...]:
    """Whoever's turn it is. What fits this machine but not now keeps its GPUs free, if this machine is held for it."""
    if not state.waiting:
        return ()
    queues = {queue.name: queue for queue in policy.queues}
    free = allocation.Free.of(state.gpus, ((held.gpus, held.task.need.share) for held in state.held), state.links)
    cpu_tasks: dict[str, int] = {}
    for held in state.held:
        if not held.gpus:
            cpu_tasks[held.task.queue] = cpu_tasks.get(held.task.queue, 0) + 1
    claims: list[tuple[Task, tuple[Gpu, ...]]] = []
    uses = [(h.task, h.task.need.share or len(h.gpus)) for h in state.held]
    turn = Turn(_claimable(state, queues), policy.queues, policy.turns, uses, state.served)
    turn.keep_back(free)
    for task in turn:
        if task.need.at_least and not (free.whole or free.shared):
            continue  # nothing is left to give or to keep; only CPU tasks may follow
        queue = queues[task.queue]
        if not _is_for_here(task, queue, state, policy) or opens_at(task, state, policy):
            continue
        slots = allocation.free_cpu_slots(queue, policy.queues, cpu_tasks, state.cpus)
        chosen = allocation.choose(task, free, slots)
        if chosen is None:
            if turn.is_held_for(task):
                free.keep(allocation.reserve(task, free))
            continue
        free.take(task.need, chosen)
        if not chosen:
            cpu_tasks[queue.name] = cpu_tasks.get(queue.name, 0) + 1
        turn.gave(task, task.need.share or len(chosen))
        claims.append((task, chosen))
    grown = ((task, allocation.grow(task, chosen, free)) for task, chosen in claims)
    return tuple(Claim(task=task, gpus=tuple(gpu.uuid for gpu in gpus)) for task, gpus in grown)


def _claimable(state: State, queues: Container[str]) -> list[Task]:
    """What may be claimed at all. A task that is still held or unsent here has to wait for that."""
    busy = {held.task.id for held in state.held} | state.unsent
    return [t for t in state.waiting if t.queue in queues and t.id not in busy and _may_start(t, state)]


def _may_start(task: Task, state: State) -> bool:
    failed = state.failed_starts.get(task.id)
    return failed is None or state.at >= retry_at(failed)


def retry_at(failed: FailedStart) -> datetime:
    return failed.at + failed.times * START_AGAIN_AFTER


def depth_to_look(state: State, policy: Policy, depth: int) -> int:
    """How many tasks of each queue to ask for next, when `depth` were asked for: more, where none of those that were shown
    can ever run here. Else what waits behind them would never be seen, and machines be launched for it again and again."""
    for queue in policy.queues:
        shown = [task for task in state.waiting if task.queue == queue.name]
        if len(shown) >= depth and not any(_is_for_here(task, queue, state, policy) for task in shown):
            return min(4 * depth, DEEPEST_LOOK)
    if policy.turns and policy.turns.holds:
        is_cut = any(sum(task.queue == queue.name for task in state.waiting) >= depth for queue in policy.queues)
        if is_cut and is_out_of_sight(state.waiting, policy.turns):
            return min(4 * depth, DEEPEST_LOOK)
        return depth
    heads = (t for t in state.waiting if t.position < FIRST_LOOK)
    queues = {queue.name: queue for queue in policy.queues}
    is_head_usable = any(t.queue in queues and _is_for_here(t, queues[t.queue], state, policy) for t in heads)
    return FIRST_LOOK if is_head_usable or not state.waiting else depth


def _is_for_here(task: Task, queue: Queue, state: State, policy: Policy) -> bool:
    """Whether this machine, idle as it may be, could and should run it."""
    return not is_left_to_others(task, policy) and allocation.why_never(task, state.gpus, queue) is None


def is_left_to_others(task: Task, policy: Policy) -> bool:
    """Smaller machines are cheaper for it, says the centre; but a task with wishes of its own may have no other."""
    limit = policy.above_gpus.get(task.queue)
    if limit is not None and policy.turns and any(h.task in (task.id, task.gang) for h in policy.turns.holds):
        return False  # this machine is held for it
    return limit is not None and task.need.at_least <= limit and not task.gpu_type and not task.gpu_memory_gib
