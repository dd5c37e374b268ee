"""`idle_timeout: auto` in virtual time: what it saves, and what it must not cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from fleet.simulate.setting import Setting
from fleet.simulate.trace import Submission
from tests.builders import a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, jobs, run

OFFERS = [an_offer(gpus=gpus, usd=float(gpus)) for gpus in (1, 2, 4, 8)]


def a_workload(days: float, every_s: float) -> list[Submission]:
    """Tasks of minutes and of hours, mostly small, in bursts by day."""
    random = Random(7)
    found: list[Submission] = []
    at = 0.0
    while at < days * 86400:
        is_day = 8 <= at / 3600 % 24 < 20
        at += random.expovariate(1 / (every_s if is_day else 6 * every_s))
        for _ in range(random.choice([1, 1, 1, 4])):
            gpus = random.choice([1, 1, 1, 2, 2, 4, 8])
            found += jobs(gpus, submit_s=round(at), duration_s=round(random.lognormvariate(6.5, 1.2)) + 10)
    return found


def a_fleet_that(is_idle_auto: bool, days: float = 4, every_s: float = 900) -> Setting:
    resource = a_resource(is_idle_auto=is_idle_auto, idle_timeout=timedelta(minutes=10))
    return a_setting(a_workload(days, every_s), a_fleet([resource]), OFFERS)


def test_auto_costs_less_than_ten_minutes_and_loses_nothing() -> None:
    auto, _ = run(a_fleet_that(True))
    fixed, _ = run(a_fleet_that(False))
    assert auto.tasks == auto.completed == fixed.completed > 300
    assert (auto.lost, auto.ran_twice_at_once, auto.busy_kills, auto.orphan_instance_s) == (0, 0, 0, 0)
    assert auto.usd < 0.97 * fixed.usd
    assert auto.wait_mean_s < fixed.wait_mean_s + 120


@pytest.mark.parametrize("is_idle_auto", [True, False])
def test_passes_that_are_left_out_would_have_changed_nothing(is_idle_auto: bool) -> None:
    """Whoever came, went or fell idle, and whatever was learned: the same machines end at the same times."""
    setting = a_fleet_that(is_idle_auto, days=0.7, every_s=300)
    setting = replace(setting, policy=replace(setting.policy, poll_interval=timedelta(seconds=15)))
    (sparse, some), (dense, all_of_them) = (run(replace(setting, is_dense=is_dense)) for is_dense in (False, True))
    assert sparse.completed == sparse.tasks > 100
    assert sparse == dense
    assert all_of_them.passes > 5 * some.passes


def test_of_two_machines_that_may_take_a_task_the_smaller_one_does() -> None:
    # Both are idle, and as many as may be: nothing smaller can be launched, so nobody is told to leave the task alone.
    fleet = a_fleet([a_resource(max_instances=2, idle_timeout=timedelta(hours=1))])
    small = [job for n in range(20) for job in jobs(1, submit_s=1000 + 60 * n, duration_s=30)]
    figures, outcome = run(a_setting([*jobs(1), *jobs(8), *small], fleet, OFFERS))
    lives, attempts = outcome.truth.lives, outcome.truth.attempts[2:]
    assert figures.instances_launched == 2
    assert [lives[attempt.instance].offer.gpus for attempt in attempts] == [1] * 20


def test_who_says_that_waiting_is_dear_waits_less_and_pays_more() -> None:
    setting = a_fleet_that(True)
    cheap, dear = (run(replace(setting, policy=replace(setting.policy, wait_usd_per_hour=usd)))[0] for usd in (0, 500))
    assert cheap.completed == dear.completed == cheap.tasks
    assert dear.wait_mean_s < cheap.wait_mean_s
    assert dear.usd > cheap.usd
