"""Shares, holds and gangs while everything fails: nothing is lost, nothing runs twice, no limit is exceeded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.model import Fairness
from fleet.simulate.workload import make_workload
from tests.builders import a_queue, a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, harsh, run


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_run_twice_in_a_fair_fleet_with_gangs(seed: int) -> None:
    queues = [a_queue("train", weight=2.0, is_shared_by_users=True), a_queue("other")]
    fleet = replace(a_fleet([a_resource(max_instances=5)], queues), fairness=Fairness.SHARES)
    made = make_workload(60, 0.3, seed=seed, queues=("train", "other"), sizes={1: 6, 2: 2, 4: 2})
    workload = [replace(job, instances=2) if n % 15 == 7 else job for n, job in enumerate(made)]
    figures, _ = run(a_setting(workload, fleet, [an_offer(gpus=4)], faults=harsh(seed)))
    assert (figures.lost, figures.ran_twice_at_once, figures.busy_kills) == (0, 0, 0)
    assert figures.completed + figures.failed == 60
    assert figures.completed >= 50
