"""Whether there is anything to plan for, and whether what is there can matter to it."""

from __future__ import annotations

from fleet.model import Snapshot


def has_work(snapshot: Snapshot) -> bool:
    """Whether anything waits, or room is kept for what may come."""
    return bool(snapshot.tasks or snapshot.holds) or _keeps_room(snapshot)


def is_for_gpus(snapshot: Snapshot) -> bool:
    """Whether all that room is looked for needs some of a GPU: a machine without a free one is then of no use, but to be held."""
    if snapshot.holds or _keeps_room(snapshot):
        return False
    return not any(task.instances > 1 or not task.need.at_least or task.gang for task in snapshot.tasks)


def is_too_wide_for_all(snapshot: Snapshot) -> bool:
    """Whether nothing waits but tasks that want more GPUs than any machine has: then what is there need not be looked at,
    and one such task, which may wait for months, does not make each plan as dear as a busy one.
    """
    if snapshot.holds or not snapshot.tasks or _keeps_room(snapshot):
        return False
    most = max((offer.gpus for offer in snapshot.offers), default=0)
    if any(task.need.at_least <= max(most, 1) or task.instances > 1 or task.gang for task in snapshot.tasks):
        return False
    widest = max((max(len(i.gpus), i.offer.gpus) for i in snapshot.instances), default=0)
    return all(task.need.at_least > widest for task in snapshot.tasks)


def _keeps_room(snapshot: Snapshot) -> bool:
    return any(r.min_instances for r in snapshot.resources) or any(q.headroom for q in snapshot.queues)
