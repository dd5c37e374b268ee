"""All the room there is, by resource.

What a machine has room for follows from what it says, and most say nothing new between two plans: then it is not worked out
again. That is a shortcut, not a memory (as in `fleet.planner.ground`): a plan is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fleet.model import Instance, Queue, Resource
from fleet.planner.capacity import Room, room_of

SPARE = 64  # machines that are gone, and remembered still

# By instance: as it was, the queues with slots of their own, and what room that leaves.
_latest: dict[str, tuple[Instance, frozenset[str], Room]] = {}
# Those that are full: they run, take tasks, and nothing is left of their GPUs.
_full: dict[str, Instance] = {}


def rooms_of(
    instances: Sequence[Instance],
    resources: Sequence[Resource],
    queues: Sequence[Queue],
    above_gpus: Callable[[Instance], Mapping[str, float] | None],
    *,
    is_for_gpus: bool = False,
) -> dict[str, list[Room]]:
    """Room by resource; `above_gpus` tells which tasks are too small for an instance (`fleet.planner.standing`).

    Those that run, fullest first, so that empty machines may become idle and end; then those that boot, in the order of
    their launch: what the next plan sees must lead it to the same places, or it would launch once more.

    `is_for_gpus`: whoever looks for room needs some of a GPU. Machines that run and have none left, which are most, are then
    left out; `add_full` adds them.
    """
    rooms: dict[str, list[Room]] = {r.name: [] for r in resources}
    coming: dict[str, list[Instance]] = {}
    with_own_slots = _with_own_slots(queues)
    _forget_all_but(instances)
    others = instances
    if is_for_gpus:  # whether they have slots left makes no difference to who needs a GPU
        others = [i for i in instances if _full.get(i.id) is not i]
    for instance in others:
        several = rooms.get(instance.offer.resource)
        if several is None or not instance.is_taking_tasks:
            continue
        if instance.enrolled_at:
            room = _known(instance, with_own_slots).anew()  # itself never handed out: a plan takes of its rooms
            if is_for_gpus and room.is_full:
                _full[instance.id] = instance
                continue
            room.above_gpus = above_gpus(instance)
            several.append(room)
        else:
            coming.setdefault(instance.offer.resource, []).append(instance)
    for name, several in rooms.items():
        several.sort(key=lambda r: (r.free_gpus, -r.shared_cpu_tasks, r.instance))
        # Ids of one pass end in a number: 10 comes after 9.
        launched = sorted(coming.get(name, ()), key=lambda i: (i.requested_at, len(i.id), i.id))
        for instance in launched:
            room = _known(instance, with_own_slots).anew()
            room.above_gpus = above_gpus(instance)
            room.launched_for = instance.standing.meant_for
            several.append(room)
    return rooms


def add_full(
    rooms: Mapping[str, list[Room]],
    instances: Sequence[Instance],
    queues: Sequence[Queue],
    above_gpus: Callable[[Instance], Mapping[str, float] | None],
) -> None:
    """Those of these instances that `rooms_of` left out, at the end: where they stand makes no difference to whoever needs a
    free GPU."""
    with_own_slots = _with_own_slots(queues)
    there = {room.instance for several in rooms.values() for room in several}
    for instance in instances:
        if instance.id in there or instance.offer.resource not in rooms or not instance.is_taking_tasks:
            continue
        room = _known(instance, with_own_slots).anew()
        room.above_gpus = above_gpus(instance)
        rooms[instance.offer.resource].append(room)


def _with_own_slots(queues: Sequence[Queue]) -> frozenset[str]:
    return frozenset(q.name for q in queues if q.slots is not None)


def _known(instance: Instance, with_own_slots: frozenset[str]) -> Room:
    """As `room_of`."""
    known = _latest.get(instance.id)
    if known is None or known[0] is not instance or known[1] != with_own_slots:
        room = room_of(instance, instance.state, with_own_slots)
        known = _latest[instance.id] = (instance, with_own_slots, room)
    return known[2]


def _forget_all_but(instances: Sequence[Instance]) -> None:
    """What is gone is asked for by nobody."""
    for memory in (_latest, _full):
        if len(memory) > 2 * len(instances) + SPARE:
            there = {instance.id for instance in instances}
            for name in [name for name in memory if name not in there]:
                del memory[name]
