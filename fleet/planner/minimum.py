"""Which instances are the ones that `min_instances` keeps: they do not end for idleness."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.model import Instance, Resource


def is_kept(instance: Instance, resource: Resource, instances: Sequence[Instance]) -> bool:
    """Whether `instance` is among those of its resource that are always kept."""
    return instance.id in kept_by_minimum((resource,), instances)


def kept_by_minimum(resources: Sequence[Resource], instances: Sequence[Instance]) -> set[str]:
    """The oldest of each resource that take tasks, as many as are always kept.

    The oldest, because that changes least: a newer one that comes and goes with demand keeps its idle time.
    """
    kept: set[str] = set()
    for resource in resources:
        if resource.min_instances:
            taking = [i for i in instances if i.offer.resource == resource.name and i.is_taking_tasks]
            taking.sort(key=lambda i: (i.requested_at, i.id))
            kept.update(i.id for i in taking[: resource.min_instances])
    return kept
