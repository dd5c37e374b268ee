"""Which instances are the ones that `min_instances` keeps: they do not end for idleness."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.model import Instance, Resource


def is_kept(instance: Instance, resource: Resource, instances: Sequence[Instance]) -> bool:
    """Whether `instance` is among the oldest of its resource that take tasks, as many as are always kept.

    The oldest, because that changes least: a newer one that comes and goes with demand keeps its idle time.
    """
    if resource.min_instances == 0:
        return False
    taking = sorted(
        (i for i in instances if i.resource == resource.name and i.is_taking_tasks),
        key=lambda i: (i.requested_at, i.id),
    )
    return any(i.id == instance.id for i in taking[: resource.min_instances])
