"""The bill, the bound and the budget, by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet.model import Budget, Market, MarketPolicy
from fleet.simulate.agenda import EPOCH, after
from fleet.simulate.bill import Billed, most_at_once, overshoot_usd
from fleet.simulate.faults import Faults
from fleet.simulate.figures import lower_bound_usd
from fleet.simulate.truth import Attempt, Life, Truth
from fleet.simulate.workload import DAY_S, make_workload
from tests.builders import a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, jobs, run


def a_bill(start_h: float, end_h: float, usd: float = 2.0) -> Billed:
    life = Life(instance="i1", offer=an_offer(usd=usd), launched_at=after(start_h * 3600), ended_at=after(end_h * 3600))
    return Billed(life, EPOCH)


def test_a_machine_that_still_runs_is_billed_until_the_end() -> None:
    assert Billed(Life(instance="i1", offer=an_offer(usd=2), launched_at=EPOCH), after(1800)).usd == 1


def test_dollars_above_the_rate_count_for_as_long_as_they_are_spent() -> None:
    bills = [a_bill(0, 2), a_bill(1, 3)]  # $4 an hour between one and two
    assert overshoot_usd(Budget(usd_per_hour=3), bills) == pytest.approx(1.0)
    assert overshoot_usd(Budget(usd_per_hour=4), bills) == 0


def test_dollars_of_a_day_and_of_a_month_count_where_they_were_spent() -> None:
    bills = [a_bill(20, 28)]  # $8 before midnight, $8 after
    assert overshoot_usd(Budget(usd_per_day=7), bills) == pytest.approx(2.0)
    assert overshoot_usd(Budget(usd_per_day=8, usd_per_month=15), bills) == pytest.approx(1.0)


def test_one_machine_that_ends_as_another_begins_is_one_at_once() -> None:
    assert most_at_once([a_bill(0, 1), a_bill(1, 2)]) == 1


def test_the_bound_takes_for_each_task_the_cheapest_shape_that_can_hold_it() -> None:
    offers = [
        an_offer(gpus=1, usd=1.0, gpu_model="L4"),
        an_offer(gpus=8, usd=16.0, gpu_model="A100"),
        an_offer(gpus=8, usd=12.0, gpu_model="A100", market=Market.SPOT),
    ]
    # $1 for one GPU, $12 for eight, $1.50 for one A100, $0.50 for half a one; sixteen fit nowhere.
    workload = [*jobs(1, 8, 0.5, 16, 0, duration_s=3600), *jobs(1, duration_s=3600, gpu_type="a100")]
    assert lower_bound_usd(a_setting(workload, offers=offers)) == pytest.approx(1 + 12 + 0.5 + 1.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_is_one_where_prices_move_too(seed: int) -> None:
    moving = Faults(seed=seed, prices_move=0.4)
    fleet = a_fleet([a_resource(market=MarketPolicy.SPOT)])
    spot = an_offer(gpus=1, usd=1.0, market=Market.SPOT)
    figures, outcome = run(a_setting(jobs(1, 1, duration_s=40_000), fleet, [spot], faults=moving))
    least = moving.least_price_of(spot, outcome.ended_at)
    assert least is not None
    assert 0.6 <= least < 1
    assert all(least <= (moving.price_of(spot, after(at_s)) or 0) for at_s in range(0, 43_200, 600))
    assert figures.usd_lower_bound == pytest.approx(2 * least * 40_000 / 3600, abs=1e-4)
    assert figures.usd_lower_bound < figures.usd


def test_two_attempts_of_a_task_at_once_are_seen() -> None:
    truth = Truth()
    attempts = [Attempt(task="t", instance=name, gpus=1, started_at=EPOCH) for name in ("i1", "i2")]
    for attempt in attempts:
        truth.start(attempt)
    assert truth.ran_twice_at_once == 1
    for attempt in attempts:
        truth.end(attempt, after(1))
    truth.start(attempts[0])
    assert truth.ran_twice_at_once == 1


def test_a_made_workload_has_the_habits_of_real_ones() -> None:
    made = make_workload(4000, 28, seed=1, queues=("a", "b"))
    assert made == make_workload(4000, 28, seed=1, queues=("a", "b"))
    assert made != make_workload(4000, 28, seed=2, queues=("a", "b"))
    assert len(made) == 4000
    durations = sorted(job.duration_s for job in made)
    assert sum(durations[-400:]) > 0.5 * sum(durations)  # a tenth of the tasks takes most of the time
    hours = [job.submit_s / 3600 % 24 for job in made]
    assert sum(12 <= hour < 18 for hour in hours) > 3 * sum(hour < 6 for hour in hours)
    weekend = sum(int(job.submit_s / DAY_S) % 7 >= 5 for job in made)
    assert 0.05 < weekend / len(made) < 0.2
    assert {job.gpus for job in made} == {1, 2, 4, 8}
    assert timedelta(seconds=made[-1].submit_s) < timedelta(days=29)
