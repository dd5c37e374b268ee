"""Which machines are at work and well. Nearly all are, in a fleet that is worth a dispatcher, and most of what is looked for
among machines is not to be found on these.

What was found of a machine holds as long as it says the same. That is a shortcut, not a memory (as in
`fleet.planner.ground`): a plan is the same with and without it.
"""

from __future__ import annotations

from fleet.model import Instance

SPARE = 64  # machines that are gone, and remembered still

_steady: dict[str, Instance] = {}  # as they were when they were looked at
_latest: list[tuple[tuple[Instance, ...], tuple[Instance, ...]]] = []


def unsteady(instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
    """Those of a snapshot that are not `is_steady`, in their order."""
    for seen, found in _latest:
        if seen is instances:
            return found
    # Two steps, because the first leaves little to the second.
    unknown = [i for i in instances if _steady.get(i.id) is not i]
    found = tuple([i for i in unknown if not is_steady(i)])
    if len(found) < len(unknown):
        others = {i.id for i in found}
        _steady.update({i.id: i for i in unknown if i.id not in others})
    if len(_steady) > 2 * len(instances) + SPARE:
        there = {i.id for i in instances}
        for name in [name for name in _steady if name not in there]:
            del _steady[name]
    _latest[:] = [(instances, found)]
    return found


def is_steady(instance: Instance) -> bool:
    """Whether it holds tasks, each on GPUs of its own, takes tasks, and has all the GPUs that it should have, none of them sick."""
    if not (instance.allocations and instance.enrolled_at and instance.is_taking_tasks):
        return False
    if len(instance.gpus) < instance.offer.gpus or any([gpu.sick is not None for gpu in instance.gpus]):  # noqa: C419 (quicker)
        return False
    return all([held.share is None for held in instance.allocations])  # noqa: C419
