"""How long a simulation takes: `fleet simulate` on a season of work, with `idle_timeout: auto` and machines of 1 to 8 GPUs.

`value`: seconds of CPU, on one core. `passes`: whole ones of the dispatcher; most of what happens needs none
(`fleet/simulate/glance.py`). The traces of a real cluster are replayed where `../shared/data` holds them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.figures import line
from benchmarks.money import setting_of
from benchmarks.shapes import Conditions
from benchmarks.workloads import PHILLY, QUEUE, Workload, philly, proportional
from fleet.model import Market
from fleet.simulate.run import answer
from fleet.simulate.workload import KINDS, make_kind

TASKS, DAYS, GOAL_S = 15_000, 125.0, 30.0
MADE = ("research", "mixed")
SEED = 1


def measure(is_quick: bool) -> Iterator[str]:
    conditions = Conditions(offers=proportional(Market.ON_DEMAND))
    most_gpus = max(offer.gpus for offer in conditions.offers)
    part = 100 if is_quick else 1
    for kind in MADE:
        tasks = make_kind(KINDS[kind], DAYS / part, seed=SEED, queues=(QUEUE,), tasks=TASKS // part)
        yield _line(Workload(name=kind, seed=SEED, tasks=tasks), conditions, None if is_quick else GOAL_S)
    for name in () if is_quick else PHILLY:
        if tasks := philly(name, most_gpus):
            yield _line(Workload(name=name, tasks=tasks), conditions, None)


def _line(workload: Workload, conditions: Conditions, goal: float | None) -> str:
    started, used = time.perf_counter(), time.process_time()
    outcome = answer(workload.name, setting_of(workload, conditions)).outcome
    cpu_s = time.process_time() - used
    return line(
        f"simulation.{workload.name}",
        cpu_s,
        "s of CPU",
        goal=goal,
        wall_s=time.perf_counter() - started,
        tasks=len(workload.tasks),
        days=workload.tasks[-1].submit_s / 86400,
        ms_per_task=1000 * cpu_s / len(workload.tasks),
        passes=outcome.passes,
        instances=len(outcome.truth.lives),
    )
