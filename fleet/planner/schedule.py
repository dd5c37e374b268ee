"""What a schedule means for a plan: where in the fleet file the value in force stands, and what is too much at a window's end."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from fleet.model import Budget, CancelDrain, Drain, Instance, InstanceState, Queue, Reason, Resource, Snapshot
from fleet.planner.minimum import kept_by_minimum

SURPLUS = "surplus"  # the code of what is drained here: only such a drain is taken back when a window opens
# Whom a smaller limit costs least: a machine without work, then one that has not begun to, then those with the least.
LEAST_LOSS = {InstanceState.READY: 0, InstanceState.REQUESTED: 1, InstanceState.BOOTING: 2, InstanceState.BUSY: 3}


def key_of(holder: Resource | Queue | Budget, path: str, key: str) -> str:
    """The path in the fleet file of the value that is in force: its own, or that of the open window which replaced it."""
    for place in reversed(holder.open_windows):
        if getattr(holder.schedule[place], key) is not None:
            return f"{path}.schedule[{place}].{key}"
    return f"{path}.{key}"


def next_window(holder: Resource | Queue | Budget) -> str:
    """When a window opens that allows more, as the end of a sentence; empty if none does."""
    return f"; its next window opens at {holder.opens_at:%a %Y-%m-%d %H:%M} UTC" if holder.opens_at else ""


def keep_to_windows(snapshot: Snapshot, ending: Container[str]) -> tuple[Drain | CancelDrain, ...]:
    """Drains of what is beyond a maximum that a window made smaller, and the end of such drains where there is room again."""
    budget = snapshot.budget
    limits = [
        (r.name, r.max_instances, key_of(r, f"resources.{r.name}", "max_instances")) for r in _scheduled(snapshot)
    ]
    fleet = key_of(budget, "budget", "max_instances")
    if not limits and not budget.schedule:
        return ()
    live = [i for i in snapshot.instances if i.id not in ending and i.state is not InstanceState.GONE]
    kept = kept_by_minimum(snapshot.resources, live)
    drains: dict[str, Drain] = {}
    back = {i.id: i for i in live if is_surplus(i)}
    for name, limit, key in limits:
        mine = [i for i in live if i.resource == name]
        _trim(mine, limit, key, kept, drains, back)
    if budget.schedule:
        _trim([i for i in live if i.id not in drains], budget.max_instances, fleet, kept, drains, back)
    open_to = {r.name for r in snapshot.resources}
    return (*drains.values(), *(_taken_back(i) for i in back.values() if i.resource in open_to))


def is_surplus(instance: Instance) -> bool:
    """Whether it was asked to drain by `keep_to_windows`, and nothing else has happened to it."""
    reason = instance.end_reason
    is_ours = instance.drain_requested_at is not None and reason is not None and reason.code == SURPLUS
    return is_ours and instance.state is InstanceState.DRAINING


def taken_back(instance: Instance) -> Instance:
    """As it will be without its drain."""
    return replace(instance, drain_requested_at=None, end_reason=None)


def _scheduled(snapshot: Snapshot) -> list[Resource]:
    return [r for r in snapshot.resources if any(w.max_instances is not None for w in r.schedule)]


def _trim(
    live: Sequence[Instance],
    limit: int | None,
    key: str,
    kept: Container[str],
    drains: dict[str, Drain],
    back: dict[str, Instance],
) -> None:
    """Keep to one limit: note what has to go, and leave in `back` only what may come back."""
    taking = [i for i in live if i.is_taking_tasks]
    ours = sorted((i for i in live if i.id in back), key=lambda i: (i.requested_at, i.id))
    # What drains still counts until it is gone, but for those that would come back it is their own place that counts.
    room = len(ours) if limit is None else max(limit - len(taking), 0)
    for instance in ours[room:]:
        del back[instance.id]
    surplus = 0 if limit is None else len(taking) - limit
    if surplus <= 0:
        return
    taking.sort(key=lambda i: i.id)
    taking.sort(key=lambda i: i.requested_at, reverse=True)
    taking.sort(key=lambda i: (i.id in kept, LEAST_LOSS[i.state], len(i.allocations)))
    for instance in taking[:surplus]:
        text = f"{len(taking)} instances take tasks, and {key}={limit}: it pulls no more and ends when it is empty"
        drains[instance.id] = Drain(
            instance=instance.id, reason=Reason(code="surplus", text=text, limit=f"{key}={limit}")
        )


def _taken_back(instance: Instance) -> CancelDrain:
    text = "the limit for which it was to end allows it again"
    return CancelDrain(instance=instance.id, reason=Reason(code="window_open", text=text))
