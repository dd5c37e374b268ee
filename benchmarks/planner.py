"""How long one plan takes: the planner is pure, so this is all that it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.figures import line, spread
from benchmarks.fleets import a_fleet
from fleet.model import Launch
from fleet.planner.plan import plan

TYPES, TASKS, INSTANCES = (50, 400), (1_000, 10_000), 1_000
RUNS = 7


def measure(is_quick: bool) -> Iterator[str]:
    for types in TYPES:
        for tasks in TASKS:
            snapshot = a_fleet(types, tasks // 100 if is_quick else tasks, INSTANCES // 100 if is_quick else INSTANCES)
            samples, cpu = [], []
            for _ in range(2 if is_quick else RUNS):
                started, used = time.perf_counter(), time.process_time()
                made = plan(snapshot)
                samples.append(1000 * (time.perf_counter() - started))
                cpu.append(1000 * (time.process_time() - used))
            figures = spread(samples)
            yield line(
                f"planner.{types}_types_{tasks}_tasks",
                figures["p50"],
                "ms",
                **figures,
                cpu_p50=spread(cpu)["p50"],
                instances=len(snapshot.instances),
                launches=sum(1 for a in made.actions if isinstance(a, Launch)),
            )
