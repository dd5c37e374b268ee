"""Which machines to launch for all that will find no room, before anybody is asked one by one: the cheapest mix."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from fleet.model import Habits, Task
from fleet.planner.capacity import Room, Walk, on_nobodys_account
from fleet.planner.demand import Advice, Choice, Demand
from fleet.planner.mix import Box, Group, Pattern, cheapest_mix
from fleet.planner.stretch import stretch

# A mix is worth finding out among machines that differ; a class without GPUs takes slots, not GPUs, and is not mixed.
MayLaunch = Callable[[Choice, Demand], bool]


def advise(
    demands: Sequence[Demand],
    left: Mapping[int, int],
    habits: Habits,
    may_launch: MayLaunch,
) -> None:
    """Write into each class the machines of the mix that hold it. `left`: how many of each class will find no room."""
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


def unmet(
    tasks: Iterable[tuple[Task, Demand]], rooms: Mapping[str, Sequence[Room]], has_room: Container[str]
) -> dict[int, int]:
    """How many of each class will find no room in what is there, when all come in this order; those of `has_room` have it."""
    left: dict[int, int] = {}
    trials = {
        name: [room.trial() for room in several if room.free_gpus or room.parts or room.free_mig]
        for name, several in rooms.items()
    }
    free = {trial.instance: trial for several in trials.values() for trial in several}
    coming = {
        task: free[room.instance]
        for several in rooms.values()
        for room in several
        if room.launched_for and room.instance in free
        for task in room.launched_for
    }
    nobodys: Mapping[str, Sequence[Room]] = on_nobodys_account(trials) if coming else {}
    walks: dict[int, list[Walk]] = {}
    for task, demand in tasks:
        fits, kind = demand.fits, demand.kind
        if not fits.wish.at_least or task.instances > 1 or task.gang:
            continue
        if task.id in has_room:
            continue
        meant = coming.get(task.id) if coming else None
        if meant and demand.may_use(meant) and meant.take(fits.wish, demand.queue, kind):
            continue
        if kind not in walks:
            walks[kind] = [Walk(rooms[name]) for rooms in (nobodys, trials) for name in demand.queue.resources if rooms]
        if not any(walk.place < len(walk.rooms) and walk.take(fits, demand.queue, kind) for walk in walks[kind]):
            left[kind] = left.get(kind, 0) + 1
    return left


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
    """Each class knows all machines with seats for it: its tasks may come before those of the others, or between them."""
    by_kind = {demand.kind: demand for demand in demands}
    # Full machines first: if a limit ends it, the most has been had for it.
    for pattern in sorted(mix, key=lambda p: sum(p.tasks.values())):
        machines = [Advice(choices[pattern.box], pattern.tasks) for _ in range(pattern.times)]
        for kind in pattern.tasks:
            by_kind[kind].advised += machines
