"""Which machines to launch for all that will find no room, before anybody is asked one by one: the cheapest mix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fleet.model import PARTS_OF_A_GPU, Habits
from fleet.planner.capacity import Room
from fleet.planner.demand import Choice, Demand
from fleet.planner.mix import Box, Group, Pattern, cheapest_mix
from fleet.planner.stretch import stretch

# A mix is worth finding out among machines that differ; a class without GPUs takes slots, not GPUs, and is not mixed.
MayLaunch = Callable[[Choice, Demand], bool]


def advise(
    demands: Sequence[Demand],
    counts: Mapping[int, int],
    rooms: Mapping[str, Sequence[Room]],
    habits: Habits,
    may_launch: MayLaunch,
) -> None:
    """Write into each class the machines of the mix that hold it. `counts`: how many of each class wait."""
    left = _unmet(demands, counts, rooms)
    boxes: list[Box] = []
    choices: list[Choice] = []
    number: dict[int, int] = {}
    groups: list[Group[int]] = []
    names: list[str] = []
    for demand in demands:
        if not left.get(demand.kind) or not demand.fits.wish.at_least:
            continue
        places = []
        for choice in _best(demand, may_launch):
            if choice.place not in number:
                number[choice.place] = len(boxes)
                boxes.append(Box(len(boxes), choice.shape.gpus, choice.usd or 0.0))
                choices.append(choice)
            places.append(number[choice.place])
        if places:
            groups.append(Group(demand.kind, demand.fits.wish.at_least, left[demand.kind], tuple(places)))
            names.append(demand.queue.name)
    if len(boxes) > 1:
        # Where several queues wait, the one whose tasks pin a machine longest speaks for all of them.
        speakers = tuple(dict.fromkeys(names))
        known: dict[int, float] = {}

        def longest(tasks: int) -> float:
            if tasks not in known:
                known[tasks] = max(stretch(habits, name, tasks) for name in speakers)
            return known[tasks]

        mix = cheapest_mix(groups, boxes, longest)
        _hand_out(mix, demands, choices)


def _unmet(demands: Sequence[Demand], counts: Mapping[int, int], rooms: Mapping[str, Sequence[Room]]) -> dict[int, int]:
    """How many of each class will find no room in what is there: about, since classes come one after the other here."""
    free = {id(room): has for several in rooms.values() for room in several if (has := _free(room))}
    left = dict(counts)
    for demand in demands:
        wish, waiting = demand.fits.wish, counts[demand.kind]
        if not wish.at_least:
            continue
        for name in demand.queue.resources:
            for room in rooms.get(name, ()):
                has = free.get(id(room), 0.0)
                if has < wish.at_least or not demand.fits[room.shape] or room.is_above(wish, demand.queue.name):
                    continue
                takes = min(waiting, int(has / wish.at_least + 1e-9))
                free[id(room)] = has - takes * wish.at_least
                waiting -= takes
                if not waiting:
                    break
            if not waiting:
                break
        left[demand.kind] = waiting
    return left


def _free(room: Room) -> float:
    return room.free_gpus + sum(room.parts) / PARTS_OF_A_GPU if room.parts else room.free_gpus


def _best(demand: Demand, may_launch: MayLaunch) -> list[Choice]:
    """Those of the first rank that has any which may be launched and whose price is known."""
    best: list[Choice] = []
    rank = None
    for choice, its_rank in zip(demand.choices, demand.ranks, strict=True):
        if rank is not None and its_rank != rank:
            break
        if choice.usd is not None and may_launch(choice, demand):
            best.append(choice)
            rank = its_rank
    return best


def _hand_out(mix: Sequence[Pattern[int]], demands: Sequence[Demand], choices: Sequence[Choice]) -> None:
    """The machine goes to its class that comes first: that one launches it, the others find their seats in it."""
    order = {demand.kind: place for place, demand in enumerate(demands)}
    by_kind = {demand.kind: demand for demand in demands}
    # Full machines first: if a limit ends it, the most has been had for it.
    for pattern in sorted(mix, key=lambda p: sum(p.tasks.values())):
        owner = by_kind[min(pattern.tasks, key=order.__getitem__)]
        owner.seats += [(choices[pattern.box], pattern.tasks)] * pattern.times
