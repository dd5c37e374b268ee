"""`money` again, on the spot market: machines are taken back, and tasks that ran there start anew (`spot.lost`)
or where they were at a checkpoint of every ten minutes (`spot.kept`).

Lives of machines are drawn alike for everybody. Where a peer leaves such a task lying (ClearML's class does), somebody puts
it back at once here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from benchmarks.money import lines
from benchmarks.shapes import Conditions
from benchmarks.workloads import proportional, real, workloads
from fleet.model import Market
from fleet.simulate.faults import Faults

MEAN_LIFE = timedelta(days=5)  # as `fleet simulate --faults spot` has it
CHECKPOINT_S = 600.0
WORKLOADS = ("quick", "mixed")  # tasks of weeks would never end on such machines


def measure(is_quick: bool) -> Iterator[str]:
    for prices, offers in (("proportional", proportional(Market.SPOT)), ("g5", real(Market.SPOT))):
        if not offers or (is_quick and prices != "proportional"):
            continue
        for workload in workloads(max(offer.gpus for offer in offers), is_quick):
            if workload.name in WORKLOADS:
                conditions = Conditions(offers=offers, faults=Faults(seed=workload.seed or 0, spot_life=MEAN_LIFE))
                yield from lines("spot.lost", prices, workload, conditions)
                kept = replace(conditions, checkpoint_s=CHECKPOINT_S)
                yield from lines("spot.kept", prices, workload, kept, checkpoint_s=CHECKPOINT_S)
