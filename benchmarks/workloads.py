"""What the money is measured on: workloads made here from seeds, real ones where the data lies beside the repository, and prices.

A task wider than the widest machine becomes as many tasks as it would fill machines, for everybody alike.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.model import Market, Offer
from fleet.simulate.agenda import EPOCH
from fleet.simulate.trace import Submission
from fleet.simulate.workload import make_workload

DATA = Path(__file__).parents[2] / "shared" / "data"  # never copied into the repository
QUEUE, RESOURCE = "train", "gpu"
PHILLY = ("philly_6c71a0_30d", "philly_2vc")
REAL_FAMILY, REAL_REGION = "g5", "us-east-1"
REAL_MODEL, REAL_MEMORY_GIB = "A10G", 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Tasks in the order of their submission."""

    name: str
    seed: int | None = None  # None: it was observed, not made
    tasks: tuple[Submission, ...]


def proportional(market: Market) -> tuple[Offer, ...]:
    """A dollar for each GPU and hour, whatever the machine; three eighths of that on the spot market."""
    rate = 1.0 if market is Market.ON_DEMAND else 0.375
    return tuple(_offer(f"p{gpus}", gpus, rate * gpus, market) for gpus in (1, 2, 4, 8))


def real(market: Market) -> tuple[Offer, ...]:
    """The cheapest shape of each width of a real family, at its list prices; empty without the data."""
    path = DATA / "gpu_prices.csv"
    if not path.exists():
        return ()
    cheapest: dict[int, Offer] = {}
    column = "on_demand_usd_h" if market is Market.ON_DEMAND else "spot_usd_h"
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["region"] == REAL_REGION and row["instance_type"].startswith(REAL_FAMILY + "."):
                offer = _offer(row["instance_type"], int(row["count"]), float(row[column]), market)
                rival = cheapest.get(offer.gpus)
                if rival is None or usd_per_hour(offer) < usd_per_hour(rival):
                    cheapest[offer.gpus] = offer
    return tuple(cheapest[gpus] for gpus in sorted(cheapest))


def usd_per_hour(offer: Offer) -> float:
    """All prices here are known."""
    assert offer.price_usd_per_hour is not None
    return offer.price_usd_per_hour


def workloads(most_gpus: int, is_quick: bool) -> Iterator[Workload]:
    """Every workload, no task wider than `most_gpus`."""
    if is_quick:
        yield _made("quick", 1, most_gpus, count=60, days=0.2, median_s=300.0, spread=1.0)
        return
    yield _made("minutes", 1, most_gpus, count=4_000, days=14, median_s=300.0, spread=1.0)
    yield _made("minutes busy", 2, most_gpus, count=9_000, days=7, median_s=400.0, spread=1.0)
    yield _made("mixed", 3, most_gpus, count=4_000, days=14, median_s=900.0, spread=1.6)
    yield _made("half hours busy", 4, most_gpus, count=9_000, days=4, median_s=1500.0, spread=0.9)
    for name in PHILLY:
        if tasks := philly(name, most_gpus):
            yield Workload(name=name, tasks=tasks)


def philly(name: str, most_gpus: int) -> tuple[Submission, ...]:
    """A trace of the real cluster, no task wider than `most_gpus`; empty without the data."""
    path = DATA / f"{name}.csv"
    return _split(_read(path), most_gpus) if path.exists() else ()


def _offer(type: str, gpus: int, usd: float, market: Market) -> Offer:
    return Offer(
        resource=RESOURCE,
        provider="fake",
        type=type,
        market=market,
        price_usd_per_hour=usd,
        gpus=gpus,
        gpu_model=REAL_MODEL,
        gpu_memory_gib=REAL_MEMORY_GIB,
        cpus=8 * gpus,
        seen_at=EPOCH,
    )


def _made(name: str, seed: int, most_gpus: int, *, count: int, days: float, median_s: float, spread: float) -> Workload:
    tasks = make_workload(count, days, seed=seed, queues=(QUEUE,), median_s=median_s, spread=spread)
    return Workload(name=name, seed=seed, tasks=_split(tasks, most_gpus))


def _read(path: Path) -> Iterator[Submission]:
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            submit_s, gpus, duration_s = (float(row[key]) for key in ("submit_s", "gpus", "duration_s"))
            yield Submission(submit_s=submit_s, gpus=gpus, duration_s=duration_s, queue=QUEUE)


def _split(tasks: Iterable[Submission], most_gpus: int) -> tuple[Submission, ...]:
    split = [
        replace(task, gpus=min(task.gpus, most_gpus)) for task in tasks for _ in range(math.ceil(task.gpus / most_gpus))
    ]
    return tuple(sorted(split, key=lambda task: task.submit_s))
