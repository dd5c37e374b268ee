"""PURE: who goes first. A task that a smaller, cheaper machine could hold is left to such machines for a moment.

A hint wakes every machine at once, and whoever claims first has the task. Where that is a machine of eight GPUs for a task of
one, seven may stay empty for as long as it runs, while a machine of its size stands idle. Who is that machine nobody need
know: the larger ones wait half a second for each smaller size there is, and then take what is still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from fleet.model import Task
from fleet.supervisor.situation import Policy, State

# Longer than a hint, a look into the queues and a claim take; short beside a boot.
FOR_EACH_SIZE = timedelta(seconds=0.5)
# Who waits for so long has been seen by all. It is the server that says since when: a clock that is wrong makes nobody wait longer.
FRESH = timedelta(seconds=10)


def first_seen(seen: Mapping[str, datetime], waiting: Iterable[Task], at: datetime) -> dict[str, datetime]:
    """When each of these was first seen from here, if it was seen at `at` too. `seen`: the same, until now."""
    return {task.id: seen.get(task.id, at) for task in waiting}


def opens_at(task: Task, state: State, policy: Policy) -> datetime | None:
    """When this machine may claim it; None: now."""
    sizes = policy.smaller.get(task.queue)
    seen = state.seen_at.get(task.id)
    if not sizes or seen is None or task.enqueued_at <= state.at - FRESH or task.gpu_type or task.gpu_memory_gib:
        return None
    if policy.turns and any(hold.task in (task.id, task.gang) for hold in policy.turns.holds):
        return None  # this machine is held for it
    at = seen + FOR_EACH_SIZE * sum(size >= task.need.at_least for size in sizes)
    return at if at > state.at else None


def openings(state: State, policy: Policy) -> list[datetime]:
    """When tasks that wait will be open to this machine, if they are still there then."""
    if not policy.smaller:
        return []
    return [at for task in state.waiting if (at := opens_at(task, state, policy))]
