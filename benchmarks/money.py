"""What a workload costs and how long its tasks wait: with fleet, with ClearML's own autoscaler, with the shapes of others.

`value`: US dollars, machines billed by the second from launch to end, 60 s at least; boot 180 s. `over_bound_percent`: above
every task at the cheapest dollar per GPU-hour of a machine that holds it, perfectly packed, no boot, no idle time.
`own_code`: what ran is the peer's released code (`release`); else it is a simulation of our own of how such a tool behaves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from benchmarks import clearml_scaler
from benchmarks.clearml_scaler import Scaler
from benchmarks.figures import line, percentile
from benchmarks.foresight import best_within
from benchmarks.shapes import Bill, Conditions, Habits, ShapeSimulation
from benchmarks.workloads import QUEUE, RESOURCE, Workload, proportional, real, workloads
from fleet.dispatcher.parts import Policy
from fleet.model import Budget, GpuNeed, Market, Offer, Queue, Resource
from fleet.simulate.engine import Simulation
from fleet.simulate.figures import Figures, figures_of, lower_bound_usd
from fleet.simulate.setting import Setting

# Shapes: who has it, and what it does.
SHAPES = {
    "a_vm_per_task": ("skypilot jobs, dstack tasks, batch services", Habits(idle_s=0, poll_s=10, is_a_vm_each=True)),
    "smallest_idle_10min": ("cluster-autoscaler", Habits(idle_s=600, poll_s=10)),
    "smallest_idle_5min": ("Ray's autoscaler, dstack fleets", Habits(idle_s=300, poll_s=5)),
    "own_width_idle_10min": ("cluster-autoscaler, a pool for each width", Habits(idle_s=600, poll_s=10, is_kept_to_width=True)),
    "own_width_idle_5min": ("Ray or dstack, a pool for each width", Habits(idle_s=300, poll_s=5, is_kept_to_width=True)),
}  # fmt: skip
WAIT_GOAL_S = 50.0
CLEARML = {"clearml_as_it_comes": Scaler(), "clearml_poll_1min_idle_10min": Scaler(idle_min=10, poll_min=1.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What one of them came to."""

    usd: float
    wait_mean_s: float
    wait_p95_s: float
    instances_launched: int
    facts: dict[str, Any]


def measure(is_quick: bool) -> Iterator[str]:
    for prices, offers in (("proportional", proportional(Market.ON_DEMAND)), ("g5", real(Market.ON_DEMAND))):
        if not offers or (is_quick and prices != "proportional"):
            continue
        for workload in workloads(max(offer.gpus for offer in offers), is_quick):
            conditions = Conditions(offers=offers)
            yield from lines("money", prices, workload, conditions)
            if prices == "proportional":
                yield _foresight("who_knows_the_future", workload, conditions)
                widths = sorted({offer.gpus for offer in offers})
                yield _foresight("who_knows_the_future_of_each_width", workload, conditions, widths)


def _foresight(name: str, workload: Workload, conditions: Conditions, widths: Sequence[int] | None = None) -> str:
    seen = best_within(workload.tasks, conditions.boot_s, WAIT_GOAL_S, widths)
    return line(
        f"money.proportional.{workload.name.replace(' ', '_')}.{name}",
        lower_bound_usd(setting_of(workload, conditions)) * (1 + seen.over_bound_percent / 100),
        "US dollars",
        over_bound_percent=seen.over_bound_percent,
        wait_mean_s=seen.wait_mean_s,
    )


def lines(name: str, prices: str, workload: Workload, conditions: Conditions, **facts: Any) -> Iterator[str]:
    """A line for each of them, and one for the bound."""
    setting = setting_of(workload, conditions)
    bound = lower_bound_usd(setting)
    facts = {"prices": prices, "seed": workload.seed, **facts}
    place = f"{name}.{prices}.{workload.name.replace(' ', '_')}"
    yield line(f"{place}.bound", bound, "US dollars", tasks=len(workload.tasks), **facts)
    for who, run in _runs(workload, setting, conditions):
        started = time.perf_counter()
        came = run()
        yield line(
            f"{place}.{who}",
            came.usd,
            "US dollars",
            over_bound_percent=100 * (came.usd / bound - 1),
            wait_mean_s=came.wait_mean_s,
            wait_p95_s=came.wait_p95_s,
            instances_launched=came.instances_launched,
            **came.facts,
            **facts,
            wall_s=time.perf_counter() - started,
        )


def setting_of(workload: Workload, conditions: Conditions) -> Setting:
    """For fleet's own simulator: one queue, one resource that sells all shapes."""
    policy = Policy(
        cluster="bench",
        resources=(Resource(name=RESOURCE, provider="fake", is_idle_auto=True),),
        queues=(Queue(name=QUEUE, resources=(RESOURCE,), need=GpuNeed(at_least=1, at_most=1)),),
        budget=Budget(),
        centre_url="http://centre",
        server_url="http://server",
        server_kind="embedded",
    )
    checkpoint = None if conditions.checkpoint_s is None else timedelta(seconds=conditions.checkpoint_s)
    return Setting(
        policy=policy,
        offers={RESOURCE: _cheapest_first(conditions.offers)},
        workload=workload.tasks,
        checkpoint=checkpoint,
        faults=conditions.faults,
    )


def _cheapest_first(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    return tuple(sorted(offers, key=lambda offer: offer.gpus))


def _runs(workload: Workload, setting: Setting, conditions: Conditions) -> Iterator[tuple[str, Callable[[], Came]]]:
    yield "fleet", lambda: _of_fleet(setting)
    for who, scaler in CLEARML.items():
        # Months of polls each minute take it minutes; the settings that it comes with stand for it there.
        if workload.seed is not None or scaler == Scaler():
            yield who, lambda scaler=scaler: _of_clearml(workload, conditions, scaler)  # type: ignore[misc]
    for who, (like, habits) in SHAPES.items():
        yield who, lambda like=like, habits=habits: _of_shape(workload, conditions, like, habits)  # type: ignore[misc]


def _of_fleet(setting: Setting) -> Came:
    figures: Figures = figures_of(setting, Simulation(setting).run(), 0.0)
    if figures.completed != figures.tasks:
        raise RuntimeError(f"fleet completed {figures.completed} of {figures.tasks} tasks")
    return Came(
        usd=figures.usd,
        wait_mean_s=figures.wait_mean_s,
        wait_p95_s=figures.wait_p95_s,
        instances_launched=figures.instances_launched,
        facts={"own_code": True},
    )


def _of_clearml(workload: Workload, conditions: Conditions, scaler: Scaler) -> Came:
    os.environ["CLEARML_CONFIG_FILE"] = os.devnull  # nobody's server
    bill, release = clearml_scaler.run(workload.tasks, conditions, scaler)
    return _of_bill(
        bill, own_code=True, release=f"clearml {release}", poll_min=scaler.poll_min, idle_min=scaler.idle_min
    )


def _of_shape(workload: Workload, conditions: Conditions, like: str, habits: Habits) -> Came:
    bill = ShapeSimulation(workload.tasks, habits, conditions).run()
    return _of_bill(bill, own_code=False, shape_of=like, poll_s=habits.poll_s)


def _of_bill(bill: Bill, **facts: object) -> Came:
    waits = bill.waits_s
    return Came(
        usd=bill.usd,
        wait_mean_s=sum(waits) / len(waits),
        wait_p95_s=percentile(waits, 95),
        instances_launched=bill.machines,
        facts=facts | ({"preempted": bill.preempted} if bill.preempted else {}),
    )
