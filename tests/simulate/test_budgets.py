"""Budgets in virtual time: whatever fails, no cap is exceeded at any instant, as the cloud bills it (promise P2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.model import Budget, WhenSpent
from fleet.simulate.agenda import EPOCH
from fleet.simulate.faults import Faults
from fleet.simulate.setting import Setting
from fleet.simulate.trace import Submission
from tests.builders import a_queue, a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, harsh, jobs, run

HOUR = 3600.0
DAY = 24 * HOUR
LAST_OF_JANUARY = 26 * DAY  # simulations begin on 5 January
A_DOLLAR = (an_offer(gpus=1, usd=1.0),)
USERS = ("ann", "bob", "")


def a_world(seed: int, when_spent: WhenSpent, faults: Faults | None = None) -> Setting:
    """A small fleet with budgets of many kinds, and work around a midnight or the end of a month."""
    dice = Random(f"{seed} {when_spent}")
    lifetime = dice.choice([None, timedelta(hours=1), timedelta(hours=5)])
    resources = [
        a_resource("small", max_lifetime=lifetime, idle_timeout=timedelta(minutes=dice.choice([1, 10]))),
        a_resource("large", max_lifetime=dice.choice([lifetime, timedelta(hours=2)])),
    ]
    offers = [an_offer("small", 1, dice.choice([0.5, 1.0])), an_offer("large", 4, dice.choice([2.5, 4.0]))]
    names = ("train", "sweep")
    queues = [a_queue(n, resources=("small", "large"), priority=dice.choice([0, 5])) for n in names]

    def some_budget(most: float) -> Budget:
        return Budget(
            max_instances=dice.choice([None, 3]),
            usd_per_hour=dice.choice([None, 3.0, 6.0]),
            usd_per_day=dice.choice([None, round(dice.uniform(1, most), 2)]),
            usd_per_month=dice.choice([None, round(dice.uniform(2, 4 * most), 2)]),
            when_spent=dice.choice([when_spent, *WhenSpent]),
        )

    whole = replace(
        some_budget(60), when_spent=when_spent, usd_per_day=round(dice.uniform(1, dice.choice([5, 12, 50])), 2)
    )
    fleet = a_fleet(resources, queues)
    users = {"ann": some_budget(20)} if dice.random() < 0.5 else {}
    per_user = dice.choice([None, some_budget(20)])
    budget = replace(whole, queues={"sweep": some_budget(20)}, per_user=per_user, users=users)
    start = dice.choice([DAY, LAST_OF_JANUARY + DAY]) - dice.uniform(0, 5) * HOUR
    work = [
        Submission(
            submit_s=round(start + dice.uniform(0, 8) * HOUR, 1),
            gpus=dice.choice([1, 1, 1, 4]),
            duration_s=round(dice.lognormvariate(dice.choice([7.5, 9.0]), 1.2), 1),
            queue=dice.choice(names),
            user=dice.choice(USERS),
        )
        for _ in range(dice.randint(3, 14))
    ]
    boot = timedelta(minutes=dice.choice([1, 3, 10]))
    return a_setting(work, replace(fleet, budget=budget), offers, boot_time=boot, faults=faults or Faults(seed=seed))


def check(setting: Setting) -> None:
    figures, _ = run(setting)
    assert figures.budget_overshoot_usd == 0
    assert (figures.lost, figures.ran_twice_at_once, figures.busy_kills) == (0, 0, 0)
    assert figures.completed + figures.failed == figures.tasks


@pytest.mark.parametrize("when_spent", WhenSpent)
@pytest.mark.parametrize("seed", range(6))
def test_no_budget_is_exceeded_when_all_goes_well(seed: int, when_spent: WhenSpent) -> None:
    check(a_world(seed, when_spent))


@pytest.mark.parametrize("when_spent", WhenSpent)
@pytest.mark.parametrize("seed", range(6))
def test_no_budget_is_exceeded_when_dispatchers_are_killed_and_calls_are_lost(seed: int, when_spent: WhenSpent) -> None:
    check(a_world(seed, when_spent, harsh(seed)))


def test_a_machine_that_lives_over_midnight_under_stop_is_ended_in_time_on_the_next_day() -> None:
    """Nothing but the hour changes at midnight, and what pays for the rest of one day need not pay for the next."""
    budget = Budget(usd_per_day=2, when_spent=WhenSpent.STOP)
    work = jobs(1, submit_s=22.5 * HOUR, duration_s=5 * HOUR)
    figures, outcome = run(a_setting(work, replace(a_fleet(), budget=budget), A_DOLLAR))
    first, *_ = outcome.truth.lives.values()
    assert first.ended_at
    assert 1.9 < (first.ended_at - EPOCH).total_seconds() / HOUR - 24 < 2
    assert figures.budget_overshoot_usd == 0


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(100, 10**9), when_spent=st.sampled_from(WhenSpent), is_harsh=st.booleans())
def test_no_budget_of_any_world_is_exceeded(seed: int, when_spent: WhenSpent, is_harsh: bool) -> None:
    check(a_world(seed, when_spent, harsh(seed) if is_harsh else None))
