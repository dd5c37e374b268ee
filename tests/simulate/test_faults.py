"""A world in which everything fails: what was promised holds all the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.model import Market, MarketPolicy
from fleet.simulate.bill import Billed, most_at_once
from fleet.simulate.faults import Faults, faults_of
from fleet.simulate.trace import Submission
from fleet.simulate.workload import make_workload
from tests.builders import a_queue, a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, harsh, jobs, run, spot_and_on_demand


@pytest.mark.parametrize("seed", range(24))
def test_under_chaos_nothing_is_lost_nor_run_twice_at_once_nor_killed_by_us_and_no_budget_is_exceeded(
    seed: int,
) -> None:
    workload = make_workload(50, 0.25, seed=seed, sizes={1: 3, 4: 1, 8: 1}, median_s=900, spread=1.0)
    resources = [a_resource("small", max_instances=3), a_resource("large", max_instances=2)]
    offers = [*spot_and_on_demand(4, 4.0, "small"), *spot_and_on_demand(8, 9.0, "large")]
    fleet = a_fleet(resources, max_instances=4, usd_per_hour=16)
    figures, outcome = run(a_setting(workload, fleet, offers, faults=harsh(seed)))
    broken = (figures.lost, figures.ran_twice_at_once, figures.busy_kills, figures.orphan_instance_s)
    assert broken == (0, 0, 0, 0)
    assert figures.budget_overshoot_usd == 0
    assert all(life.ended_at for life in outcome.truth.lives.values())
    assert figures.completed + figures.failed == figures.tasks
    attempts = Counter(attempt.task for attempt in outcome.truth.attempts)
    given_up = [task for task, state in outcome.states.items() if state != "completed"]
    assert [attempts[task] for task in given_up if attempts[task] < fleet.max_attempts] == []


def test_chaos_is_the_same_chaos_for_the_same_seed() -> None:
    setting = a_setting(make_workload(40, 0.2, seed=9), faults=harsh(9))
    assert run(setting)[0] == run(setting)[0]
    assert run(setting)[0] != run(replace(setting, faults=harsh(10)))[0]


def test_a_spot_machine_that_is_taken_back_has_put_its_task_back_before() -> None:
    resource = a_resource(market=MarketPolicy.SPOT)
    offers = [an_offer(market=Market.SPOT)]
    faults = Faults(seed=5, spot_life=timedelta(minutes=40))
    figures, outcome = run(a_setting(jobs(1, duration_s=3000), a_fleet([resource]), offers, faults=faults))
    (*lost, last) = outcome.truth.attempts
    assert (figures.completed, figures.lost, figures.busy_kills) == (1, 0, 0)
    assert lost
    assert not any(attempt.is_complete for attempt in lost)
    assert last.is_complete
    for attempt in lost:  # stopped half a minute before the cloud would have taken the machine
        assert outcome.truth.lives[attempt.instance].ended_at == attempt.ended_at


def test_a_zone_that_is_sold_out_makes_the_next_one_be_tried() -> None:
    offers = [an_offer(usd=1.0, market=Market.SPOT), an_offer(market=Market.ON_DEMAND)]
    faults = Faults(sold_out={Market.SPOT: 1.0})
    figures, outcome = run(a_setting(jobs(1), offers=offers, faults=faults))
    assert [life.offer.market for life in outcome.truth.lives.values()] == [Market.ON_DEMAND]
    assert figures.wait_mean_s == 180  # the pass that finds out tries the other


def test_a_machine_that_never_boots_is_replaced_after_its_boot_timeout() -> None:
    figures, outcome = run(a_setting(jobs(1), a_fleet(max_instances=1), faults=Faults(seed=9, dead_boots=0.6)))
    lives = list(outcome.truth.lives.values())
    assert len(lives) > 1
    assert figures.wait_mean_s == 180 + (len(lives) - 1) * (
        15 * 60 + 2 + 12
    )  # told to end, gone, and the offer left alone for a while


def test_a_supervisor_that_dies_costs_its_machine_no_more_than_the_reapers_patience() -> None:
    faults = Faults(seed=1, supervisor_life=timedelta(minutes=10))
    figures, outcome = run(a_setting(jobs(1, duration_s=1200), faults=faults))
    first, *_ = outcome.truth.attempts
    life = outcome.truth.lives[first.instance]
    assert first.ended_at
    assert life.ended_at
    assert timedelta(seconds=180) <= life.ended_at - first.ended_at <= timedelta(seconds=184)
    assert figures.lost == 0


def test_a_machine_that_is_cut_off_ends_its_tasks_before_they_are_given_away() -> None:
    faults = Faults(seed=3, cut_off_every=timedelta(minutes=5), cut_off_for=timedelta(hours=9))
    figures, outcome = run(a_setting(jobs(1, duration_s=900), faults=faults))
    assert figures.ran_twice_at_once == 0
    assert len(outcome.truth.attempts) > 1


def test_zones_differ_and_the_seed_says_how() -> None:
    faults = faults_of("spot", 1)
    lives = {
        zone: [faults.spot_life_of(an_offer(market=Market.SPOT, zone=zone), f"i{n}") for n in range(200)]
        for zone in ("a", "b")
    }
    means = [sum((life for life in each if life), timedelta(0)) / 200 for each in lives.values()]
    assert means[0] != means[1]
    assert all(timedelta(days=1) < mean < timedelta(days=25) for mean in means)
    assert faults.spot_life_of(an_offer(market=Market.ON_DEMAND), "i1") is None


workloads = st.lists(
    st.builds(
        Submission,
        submit_s=st.integers(0, 3000).map(float),
        gpus=st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0, 8.0]),
        duration_s=st.integers(0, 3000).map(float),
        queue=st.sampled_from(["train", "urgent"]),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    workload=workloads,
    sizes=st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=3, unique=True),
    cap=st.sampled_from([None, 1, 2, 5]),
    usd_per_hour=st.sampled_from([None, 9.0, 30.0]),
    boot_s=st.integers(0, 400),
    idle_s=st.integers(0, 900),
)
def test_whatever_the_workload_and_the_fleet_all_that_fits_is_done_within_the_limits_and_not_below_the_bound(
    workload: list[Submission],
    sizes: list[int],
    cap: int | None,
    usd_per_hour: float | None,
    boot_s: int,
    idle_s: int,
) -> None:
    resources = [a_resource(f"r{n}", max_instances=cap, idle_timeout=timedelta(seconds=idle_s)) for n in sizes]
    names = tuple(r.name for r in resources)
    queues = [a_queue("train", resources=names), a_queue("urgent", resources=names[::-1], priority=1)]
    fleet = a_fleet(resources, queues, usd_per_hour=usd_per_hour)
    offers = [an_offer(f"r{n}", n, n * 1.1) for n in sizes]
    figures, outcome = run(a_setting(workload, fleet, offers, boot_time=timedelta(seconds=boot_s)))
    fitting = [job for job in workload if job.gpus <= max(sizes)]
    assert (figures.completed, figures.failed) == (len(fitting), len(workload) - len(fitting))
    assert (figures.lost, figures.ran_twice_at_once, figures.busy_kills, figures.orphan_instance_s) == (0, 0, 0, 0)
    assert figures.budget_overshoot_usd == 0
    for name in names:
        bills = [Billed(life, outcome.ended_at) for life in outcome.truth.lives.values() if life.offer.resource == name]
        assert cap is None or most_at_once(bills) <= cap
    if len(fitting) == len(workload):
        assert figures.usd >= figures.usd_lower_bound - 1e-4
        assert figures.gpu_hours_billed >= figures.gpu_hours_used - 1e-4
