"""Which machines are replaced because their GPUs are sick: more than `replace_sick` of them, or what waits cannot be held by
the rest. They drain, so no work on a healthy GPU is cut short; and never more at once than a part of the fleet, because
a driver that goes wrong everywhere must not empty it. Source: docs/adr/0027-sick-gpus.md
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from fleet.model import Drain, Instance, Reason, Resource, Snapshot
from fleet.planner.steady import unsteady

AT_ONCE = 5  # one of so many machines, at least one
# Drivers may load minutes after a machine has enrolled: GPUs that are missing count from then on.
MISSING_AFTER = timedelta(minutes=10)


def replace_sick(snapshot: Snapshot, ending: Collection[str]) -> tuple[Drain, ...]:
    """An order to drain for the worst of those that are to be replaced, idle ones first, as many as may be at once."""
    # Of thousands nearly all are well, and that is quickly seen.
    others = unsteady(snapshot.instances)
    suspects = [i for i in others if len(i.gpus) < i.offer.gpus and i.enrolled_at]
    is_any_sick = any([gpu.sick is not None for i in others for gpu in i.gpus])  # noqa: C419 (three times as fast)
    if not is_any_sick and not any(_sick(i, snapshot) for i in suspects):
        return ()
    running = [i for i in snapshot.instances if i.enrolled_at and not i.gone_at]
    resources = {r.name: r for r in snapshot.resources}
    under_way = sum(i.end_reason is not None and i.end_reason.code == "gpus_sick" for i in running)
    room = max(len(running) // AT_ONCE, 1) - under_way
    found: list[tuple[tuple[bool, float, str], Drain]] = []
    for instance in running:
        resource = resources.get(instance.resource)
        if resource is None or not instance.is_taking_tasks or instance.id in ending:
            continue
        reason = _why(instance, resource, snapshot)
        if reason:
            part = _sick(instance, snapshot) / _total(instance, snapshot)
            order = bool(instance.allocations), -part, instance.id
            found.append((order, Drain(instance=instance.id, reason=reason)))
    found.sort(key=lambda each: each[0])
    return tuple(drain for _, drain in found[: max(room, 0)])


def _why(instance: Instance, resource: Resource, snapshot: Snapshot) -> Reason | None:
    """Why this one is to be replaced, if it is."""
    sick, total = _sick(instance, snapshot), _total(instance, snapshot)
    if not sick or resource.replace_sick is None:
        return None
    what = f"{sick} of {total} GPUs are sick ({_first(instance)})"
    if sick > resource.replace_sick * total:
        limit = f"resources.{resource.name}.replace_sick={resource.replace_sick:g}"
        return Reason(code="gpus_sick", text=what, limit=limit)
    queues = {q.name for q in snapshot.queues if resource.name in q.resources}
    for task in snapshot.tasks:
        if task.queue in queues and total - sick < task.need.at_least <= total:
            text = f"{what}, and task {task.id}, which waits, needs {task.need}"
            return Reason(code="gpus_sick", text=text, task=task.id, queue=task.queue)
    return None


def _sick(instance: Instance, snapshot: Snapshot) -> int:
    """GPUs out of service, those included that it should have and never showed."""
    return sum(gpu.sick is not None for gpu in instance.gpus) + _total(instance, snapshot) - len(instance.gpus)


def _total(instance: Instance, snapshot: Snapshot) -> int:
    there = len(instance.gpus)
    is_late = instance.enrolled_at is not None and snapshot.at - instance.enrolled_at >= MISSING_AFTER
    return max(there, instance.offer.gpus) if is_late else there


def _first(instance: Instance) -> str:
    """What is wrong with one of them, for people."""
    why = next((f"GPU {gpu.index}: {gpu.sick}" for gpu in instance.gpus if gpu.sick), None)
    return why or f"its driver shows {len(instance.gpus)}, and {instance.offer.gpus} were launched"
