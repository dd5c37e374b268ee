"""How long one plan takes: the planner is pure, so this is all that it costs. Goals are in milliseconds of CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.figures import line, spread
from benchmarks.fleets import a_fleet
from fleet.model import Launch, Snapshot
from fleet.planner.plan import plan

# Types, tasks, instances, and the goal; the last has nothing to do.
SIZES = (
    (50, 1_000, 1_000, None),
    (400, 1_000, 1_000, None),
    (400, 10_000, 1_000, 250.0),
    (400, 100_000, 5_000, 2500.0),
    (400, 0, 5_000, 5.0),
)
RUNS = 7


def settled(snapshot: Snapshot) -> Snapshot:
    """The same a pass later, when every machine has heard which levels hold for it."""
    told = dict(plan(snapshot).standings)
    instances = tuple(replace(i, standing=told[i.id]) if i.id in told else i for i in snapshot.instances)
    return replace(snapshot, instances=instances)


def measure(is_quick: bool) -> Iterator[str]:
    for types, tasks, instances, goal in SIZES:
        snapshot = a_fleet(types, tasks // 100, instances // 100) if is_quick else a_fleet(types, tasks, instances)
        if not tasks:
            snapshot = settled(snapshot)
        samples, cpu = [], []
        for _ in range(2 if is_quick else RUNS):
            started, used = time.perf_counter(), time.process_time()
            made = plan(snapshot)
            samples.append(1000 * (time.perf_counter() - started))
            cpu.append(1000 * (time.process_time() - used))
        figures = spread(cpu)
        yield line(
            f"planner.{types}_types_{tasks}_tasks",
            figures["p50"],
            "ms of CPU",
            goal=goal,
            **figures,
            wall_p50=spread(samples)["p50"],
            instances=len(snapshot.instances),
            launches=sum(1 for a in made.actions if isinstance(a, Launch)),
        )
