"""Machines whose GPUs fail, in virtual time: replaced one after the other, and work on what is well goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import combinations

import pytest

from fleet.model import Instance
from fleet.simulate.agenda import EPOCH
from fleet.simulate.engine import Simulation
from fleet.simulate.workload import make_workload
from tests.builders import a_resource
from tests.simulate.nouns import a_fleet, a_setting, harsh, jobs, run, spot_and_on_demand

MACHINES = 5


def drained_for_sickness(simulation: Simulation) -> list[Instance]:
    known = [i for i in map(simulation.store.instance, simulation.truth.lives) if i]
    return [i for i in known if i.end_reason and i.end_reason.code == "gpus_sick"]


def overlap(one: tuple[datetime, datetime], other: tuple[datetime, datetime]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def test_of_five_machines_that_fall_sick_at_once_one_is_replaced_at_a_time_and_healthy_work_is_never_ended() -> None:
    """Four tasks on each, of an hour; three of its four GPUs fail after half of it."""
    fleet = a_fleet([a_resource(min_instances=MACHINES)], max_instances=MACHINES + 1)
    simulation = Simulation(a_setting(jobs(*[1] * (4 * MACHINES), duration_s=3600), fleet))

    def fail() -> None:
        for machine in tuple(simulation._machines.values()):
            machine.lose_gpus()

    failed_at = EPOCH + timedelta(minutes=33)
    simulation.agenda.add(failed_at, fail)
    outcome = simulation.run()

    drained = drained_for_sickness(simulation)
    assert len(drained) == MACHINES
    spans = [(i.drain_requested_at, i.gone_at) for i in drained if i.drain_requested_at and i.gone_at]
    assert len(spans) == MACHINES
    assert [pair for pair in combinations(spans, 2) if overlap(*pair)] == []

    cut = [attempt for attempt in outcome.truth.attempts if not attempt.is_complete]
    assert Counter(attempt.instance for attempt in cut) == {i.id: 3 for i in drained}
    assert {attempt.ended_at for attempt in cut} == {failed_at}, "what ran on the fourth GPU went on to its own end"
    assert Counter(outcome.states.values()) == {"completed": 4 * MACHINES}
    assert outcome.truth.busy_kills == 0


@pytest.mark.parametrize("seed", range(6))
def test_under_chaos_with_gpus_that_fail_nothing_is_lost_nor_run_twice_nor_killed_by_us(seed: int) -> None:
    workload = make_workload(40, 0.25, seed=seed, sizes={1: 3, 4: 1, 8: 1}, median_s=900, spread=1.0)
    resources = [a_resource("small", max_instances=3), a_resource("large", max_instances=2)]
    offers = [*spot_and_on_demand(4, 4.0, "small"), *spot_and_on_demand(8, 9.0, "large")]
    fleet = a_fleet(resources, max_instances=4, usd_per_hour=16)
    faults = replace(harsh(seed), gpus_sick_every=timedelta(hours=1))
    setting = a_setting(workload, fleet, offers, faults=faults)
    figures, outcome = run(setting)
    assert (figures.lost, figures.ran_twice_at_once, figures.busy_kills, figures.orphan_instance_s) == (0, 0, 0, 0)
    assert figures.completed + figures.failed == figures.tasks
    assert all(life.ended_at for life in outcome.truth.lives.values())
    assert run(setting)[0] == figures, "the same for the same seed"
