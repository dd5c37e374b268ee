"""Nouns of simulations, with sensible defaults: say only what matters to the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fleet.dispatcher.parts import Policy
from fleet.model import Budget, Market, Offer, Queue, Resource
from fleet.simulate.agenda import EPOCH
from fleet.simulate.engine import Simulation
from fleet.simulate.faults import Faults, faults_of
from fleet.simulate.figures import Figures, figures_of
from fleet.simulate.setting import Outcome, Setting
from fleet.simulate.trace import Submission
from tests.builders import a_queue, a_resource, an_offer


def jobs(*gpus: float, submit_s: float = 0, duration_s: float = 600, **changes: Any) -> list[Submission]:
    base = Submission(submit_s=submit_s, gpus=1, duration_s=duration_s, queue="train")
    return [replace(base, gpus=count, **changes) for count in gpus]


def a_fleet(resources: Sequence[Resource] = (), queues: Sequence[Queue] = (), **budget: Any) -> Policy:
    resources = tuple(resources) or (a_resource(),)
    return Policy(
        cluster="test",
        resources=resources,
        queues=tuple(queues) or (a_queue(resources=tuple(r.name for r in resources)),),
        budget=Budget(**budget),
        centre_url="http://centre",
        server_url="http://server",
        server_kind="embedded",
    )


def a_setting(
    workload: Sequence[Submission],
    policy: Policy | None = None,
    offers: Sequence[Offer] = (an_offer(),),
    **changes: Any,
) -> Setting:
    """One 4-GPU offer of $2 an hour, three minutes to boot, ten minutes of idleness."""
    policy = policy or a_fleet()
    by_resource = {r.name: tuple(o for o in offers if o.resource == r.name) for r in policy.resources}
    ordered = sorted(workload, key=lambda job: job.submit_s)
    return replace(Setting(policy=policy, offers=by_resource, workload=ordered), **changes)


def run(setting: Setting) -> tuple[Figures, Outcome]:
    outcome = Simulation(setting).run()
    return figures_of(setting, outcome, wall_s=0.0), outcome


def spot_and_on_demand(gpus: int, usd: float, resource: str = "gpu") -> list[Offer]:
    """Two zones, spot first."""
    return [
        an_offer(resource, gpus, price, market=market, zone=zone)
        for market, price in ((Market.SPOT, usd / 3), (Market.ON_DEMAND, usd))
        for zone in ("a", "b")
    ]


def harsh(seed: int) -> Faults:
    """Chaos for workloads of hours: everything fails every hour or so."""
    return replace(
        faults_of("chaos", seed),
        spot_life=timedelta(hours=1),
        cut_off_every=timedelta(hours=1),
        supervisor_life=timedelta(hours=2),
        dispatcher_life=timedelta(minutes=30),
        lost_calls=0.2,
        killed_calls=0.1,
        dead_boots=0.1,
    )


def starts_s(outcome: Outcome) -> list[float]:
    """When each attempt started, in seconds."""
    return [(attempt.started_at - EPOCH).total_seconds() for attempt in outcome.truth.attempts]
