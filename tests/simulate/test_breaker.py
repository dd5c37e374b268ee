"""What a broken image can cost: the bound of docs/adr/0015-breaker.md, held in virtual time with a dispatcher that dies hourly."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.model import Market
from fleet.planner.breaker import FAILURES, PROBES_IN_24_H
from fleet.simulate.agenda import EPOCH, after
from fleet.simulate.engine import Simulation
from fleet.simulate.faults import Faults
from fleet.simulate.setting import Setting
from fleet.simulate.trace import task_id
from tests.builders import a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, jobs, run

DAY = timedelta(hours=24)
BROKEN = {
    "never enrols": Faults(dead_boots=1.0),
    "enrols and ends at once": Faults(quitters=1.0),
    "its agents die at once": Faults(failing_agents=1.0),
}


def a_broken_day(
    faults: Faults, max_instances: int, *, types: int = 6, every_s: float = 600.0, seed: int = 0
) -> Setting:
    """Tasks come all day, for a resource of many offers; pauses alone would let each of those be tried."""
    offers = [
        an_offer(usd=usd, type=f"t{n}.large", market=market, zone=zone)
        for n in range(types)
        for market, usd in ((Market.SPOT, 1.0), (Market.ON_DEMAND, 2.0))
        for zone in ("a", "b")
    ]
    count = int(DAY.total_seconds() / every_s)
    workload = [job for n in range(count) for job in jobs(4, submit_s=every_s * n, duration_s=3000)]
    faults = replace(faults, seed=seed, dispatcher_life=timedelta(hours=1))
    resource = a_resource(max_instances=max_instances, idle_timeout=timedelta(minutes=5))
    return a_setting(workload, a_fleet([resource]), offers, faults=faults, boot_time=timedelta(seconds=60))


def launches_in_a_day(setting: Setting) -> int:
    """Machines that the cloud started within the first 24 hours."""
    simulation = Simulation(setting)
    simulation.agenda.add(
        EPOCH + DAY,
        lambda: [simulation.server.ask_to_stop(task) for task in map(task_id, range(len(setting.workload)))],
    )
    simulation.run()
    return sum(life.launched_at < EPOCH + DAY for life in simulation.truth.lives.values())


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("max_instances", [1, 4])
def test_a_broken_image_launches_no_more_than_the_bound_in_24_hours(kind: str, max_instances: int) -> None:
    launched = launches_in_a_day(a_broken_day(BROKEN[kind], max_instances))
    assert FAILURES <= launched <= FAILURES - 1 + max_instances + PROBES_IN_24_H


@settings(max_examples=8, deadline=None)
@given(
    kind=st.sampled_from(sorted(BROKEN)),
    max_instances=st.integers(1, 6),
    types=st.integers(1, 5),
    every_s=st.sampled_from([120.0, 900.0, 3600.0]),
    seed=st.integers(0, 99),
)
def test_the_bound_holds_whatever_waits_and_however_many_offers_there_are(
    kind: str, max_instances: int, types: int, every_s: float, seed: int
) -> None:
    setting = a_broken_day(BROKEN[kind], max_instances, types=types, every_s=every_s, seed=seed)
    assert launches_in_a_day(setting) <= FAILURES - 1 + max_instances + PROBES_IN_24_H


def test_when_the_image_is_mended_the_next_probe_closes_the_breaker_and_everything_runs() -> None:
    setting = a_setting(jobs(*[4] * 6), a_fleet([a_resource(max_instances=3)]), faults=Faults(dead_boots=1.0))
    simulation = Simulation(setting)
    simulation.agenda.add(after(3 * 3600), lambda: setattr(simulation.fates, "faults", Faults()))
    outcome = simulation.run()
    assert set(outcome.states.values()) == {"completed"}
    kinds = [e.kind for e in simulation.store.events() if e.kind.startswith("breaker.")]
    assert kinds == ["breaker.opened", "breaker.closed"]


def test_a_burst_that_older_machines_have_done_before_the_new_ones_boot_opens_no_breaker() -> None:
    workload = [*jobs(*[4] * 12, duration_s=300), *jobs(*[4] * 12, submit_s=400, duration_s=5)]
    simulation = Simulation(a_setting(workload))
    outcome = simulation.run()
    assert set(outcome.states.values()) == {"completed"}
    assert [e.kind for e in simulation.store.events() if e.kind.startswith("breaker.")] == []


def test_spot_that_is_taken_back_again_and_again_is_no_broken_image() -> None:
    offers = [an_offer(usd=0.5, market=Market.SPOT)]
    faults = Faults(seed=1, spot_life=timedelta(minutes=6))
    simulation = Simulation(a_setting(jobs(*[4] * 5, duration_s=120), offers=offers, faults=faults))
    simulation.run()
    assert [e.kind for e in simulation.store.events() if e.kind.startswith("breaker.")] == []
    assert run(a_setting(jobs(4, duration_s=120), offers=offers, faults=faults))[0].lost == 0
