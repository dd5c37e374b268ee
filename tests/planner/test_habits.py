"""What `idle_timeout: auto` learns from tasks that came and went."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.model import Band, Habits
from fleet.planner.habits import IDLE_CHOICES_S, Spell, Stay, _band, _bands, _cost, learn

KIND = ("gpu", "fake-1gpu")


def a_stay(came_s: float, lasts_s: float, **changes: object) -> Stay:
    stay = Stay(KIND, "train", came_s, came_s, came_s + lasts_s, machines=1.0, usd_per_hour=1.0)
    return stay._replace(**changes)


def bands(stays: list[Stay]) -> tuple[Band, ...]:
    return learn(stays, [180.0] * 5).bands[KIND]


def test_a_level_that_is_needed_again_soon_is_kept_longer_than_one_that_bursts_need() -> None:
    # One machine is needed every five minutes; once in four hours five more are, at once.
    steady = [a_stay(n * 300.0, 200.0) for n in range(600)]
    bursts = [a_stay(n * 14400.0 + 50, 200.0) for n in range(12) for _ in range(30)]
    found = bands(sorted([*steady, *bursts], key=lambda s: s.came_s))
    assert found[0].idle_s >= 100
    assert found[-1].level > 1
    assert found[-1].idle_s == IDLE_CHOICES_S[0]


def test_tasks_of_hours_that_come_once_a_day_keep_nothing() -> None:
    found = bands([a_stay(n * 86400.0, 4 * 3600.0) for n in range(60)])
    assert {band.idle_s for band in found} == {IDLE_CHOICES_S[0]}


def test_too_few_stays_teach_no_band() -> None:
    assert learn([a_stay(n * 600.0, 60.0) for n in range(5)], []).bands == {}
    assert learn([], [180.0]) == Habits()


@pytest.mark.parametrize("lasts_s", [0.0, -30.0])
def test_a_stay_that_took_no_time_or_less_teaches_nothing(lasts_s: float) -> None:
    good = [a_stay(n * 300.0, 200.0) for n in range(60)]
    assert learn([*good, a_stay(450.0, lasts_s)], []) == learn(good, [])
    assert learn([a_stay(0.0, lasts_s)], []) == Habits()


def test_machines_without_a_price_are_kept_as_the_fleet_file_says() -> None:
    found = learn([a_stay(n * 300.0, 200.0, usd_per_hour=0.0) for n in range(60)], [])
    assert found.bands == {}
    assert found.mean_s["train"] == 200.0


def test_queues_are_told_apart_and_together() -> None:
    stays = [a_stay(n * 300.0, 100.0) for n in range(30)]
    stays += [a_stay(n * 300.0, 300.0, queue="long") for n in range(30)]
    found = learn(stays, [60.0, 90.0, 600.0])
    assert found.mean_s == pytest.approx({"train": 100.0, "long": 300.0, "": 200.0})
    assert found.boot_s == 90.0
    assert set(found.stretch) == {"train", "long", ""}


def test_the_order_in_which_stays_are_told_does_not_matter() -> None:
    random = Random(3)
    stays = [a_stay(random.uniform(0, 86400), random.expovariate(1 / 900)) for _ in range(300)]
    assert bands(stays) == bands(list(reversed(stays)))


SPELLS = st.lists(st.builds(Spell, st.floats(1, 20000), st.floats(0, 40000)), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(group=st.lists(SPELLS, min_size=1, max_size=4), boot_s=st.floats(0, 900), wait=st.floats(0, 20))
def test_what_is_chosen_costs_no_more_than_any_fixed_time_would_have(
    group: list[list[Spell]], boot_s: float, wait: float
) -> None:
    chosen = _band(1, group, boot_s, wait)
    costs = [_cost(group, idle_s, 0.0, boot_s, wait) for idle_s in IDLE_CHOICES_S]
    assert _cost(group, chosen.idle_s, chosen.patience_s, boot_s, wait) <= min(costs) + 1e-6


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), machines=st.sampled_from([0.125, 0.5, 1.0, 2.0]))
def test_every_workload_teaches_times_that_may_be_chosen(seed: int, machines: float) -> None:
    random = Random(seed)
    stays = [a_stay(random.uniform(0, 40000), random.choice([60, 600, 9000]), machines=machines) for _ in range(120)]
    for several in learn(stays, [random.uniform(0, 600)]).bands.values():
        assert [band.level for band in several] == sorted({band.level for band in several})
        assert all(band.idle_s in IDLE_CHOICES_S and 0 <= band.patience_s < math.inf for band in several)


def test_neighbouring_levels_share_what_they_saw() -> None:
    spells = {n: [Spell(60.0, 600.0)] * 5 + [Spell(60.0, math.inf)] for n in range(1, 11)}
    assert [band.level for band in _bands(spells, 180.0, 0.0)] == [1, 6]


def test_an_hour_of_waiting_is_worth_more_where_tasks_are_longer_but_not_beyond_three_hours() -> None:
    worth = [
        learn([a_stay(n * 1e6, hours * 3600.0) for n in range(30)], []).wait_usd_per_hour for hours in (1, 2, 3, 30)
    ]
    # 10 s for each task are as bad as 3 % on the bill, at a dollar an hour.
    assert worth == pytest.approx([3600 / 10 * 0.03 * hours for hours in (1, 2, 3, 3)])
