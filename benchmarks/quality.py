"""What a plan costs an hour beside the exact optimum of the same small world: how good the choice of machines is.

`value`: by how many per cent the plan is dearer. Worlds that need no machine count as 0 where the plan launches none.
In `machines_with_room` the optimum may send any task to what is free; in fact supervisors take whose turn it is. So in `after_reuse`
plan and optimum have to launch for the same tasks: those that find nothing free when all come in their order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.figures import line
from benchmarks.optimum import NOTHING_USD, a_world, least_usd_per_hour
from fleet.model import Launch, Snapshot
from fleet.planner.plan import plan

WORLDS = 200  # of each of two kinds
MEAN_GOAL_PERCENT, WORST_GOAL_PERCENT = 2.0, 10.0


def measure(is_quick: bool) -> Iterator[str]:
    seeds = range(10 if is_quick else WORLDS)
    yield from _lines("empty_fleet", [a_world(seed, with_machines=False) for seed in seeds])
    with_room = [a_world(seed) for seed in seeds]
    yield from _lines("after_reuse", [left_over(world) for world in with_room])
    yield from _lines("machines_with_room", with_room)


def left_over(world: Snapshot) -> Snapshot:
    """An empty fleet with the tasks that find no room on what is there."""
    there = {i.id for i in world.instances}
    reused = {w.task for w in plan(world).waiting if w.instance in there}
    return replace(world, instances=(), tasks=tuple(t for t in world.tasks if t.id not in reused))


def _lines(name: str, worlds: Sequence[Snapshot]) -> Iterator[str]:
    started = time.perf_counter()
    excess = [excess_percent(world) for world in worlds]
    worst = max(range(len(excess)), key=excess.__getitem__)
    mean, wall_s = sum(excess) / len(excess), time.perf_counter() - started
    yield line(f"quality.{name}.mean", mean, "% over the optimum", goal=MEAN_GOAL_PERCENT, n=len(excess), wall_s=wall_s)
    yield line(f"quality.{name}.worst", excess[worst], "% over the optimum", goal=WORST_GOAL_PERCENT, seed=worst)


def excess_percent(world: Snapshot) -> float:
    """By how much the plan's launches are dearer than the least that would do.

    Raises:
        RuntimeError: a launch has no price, or the plan is cheaper than the optimum: one of the two is wrong.
    """
    least = least_usd_per_hour(world)
    usd = [a.offer.price_usd_per_hour for a in plan(world).actions if isinstance(a, Launch)]
    total = sum(each for each in usd if each is not None)
    if None in usd or total < least - 1e-6:
        raise RuntimeError(f"a plan of {total} $ an hour, where the least is {least}")
    if least <= NOTHING_USD:
        return 0.0 if total <= NOTHING_USD else 100.0
    return 100 * (total / least - 1)
