"""Whether a small task is worth a place on a large machine."""

from __future__ import annotations

import math

import pytest

from fleet.model import Habits
from fleet.planner.worth import ALL, Alternative, Scale, above_gpus, steps_of
from tests.builders import an_offer

PROPORTIONAL = tuple(Alternative(gpus, float(gpus)) for gpus in (1, 2, 4, 8))
MINUTES = Habits(mean_s={"": 600.0}, boot_s=180.0)
HOURS = Habits(mean_s={"": 4 * 3600.0}, boot_s=180.0)


def limit(gpus: int, habits: Habits, tasks: int = 0, steps: tuple[Alternative, ...] = PROPORTIONAL) -> float:
    return Scale(steps, habits, "train").limit(an_offer(gpus=gpus, usd=float(gpus)), tasks)


def test_steps_are_the_cheapest_of_each_size_and_a_larger_one_that_is_cheaper_leaves_the_smaller_out() -> None:
    offers = [an_offer(gpus=g, usd=usd) for g, usd in ((1, 3.0), (1, 1.0), (2, 2.5), (4, 2.0), (8, 9.0))]
    assert steps_of(offers) == (Alternative(1, 1.0), Alternative(4, 2.0), Alternative(8, 9.0))


@pytest.mark.parametrize("price", [None, math.nan, math.inf])
def test_what_has_no_price_is_no_alternative_and_refuses_nobody(price: float | None) -> None:
    assert steps_of([an_offer(gpus=1, usd=price), an_offer(gpus=8, usd=8.0)]) == (Alternative(8, 8.0),)
    if price is None or math.isnan(price):
        assert above_gpus(an_offer(gpus=8, usd=price), 0, {"train": Scale(PROPORTIONAL, HOURS, "train")}) == []


def test_tasks_of_hours_do_not_belong_on_an_idle_machine_of_twice_their_size() -> None:
    assert [limit(gpus, HOURS) for gpus in (1, 2, 4, 8)] == [ALL, 1, 2, 4]


def test_a_boot_that_costs_as_much_as_the_task_makes_a_place_on_the_next_size_worth_it() -> None:
    short = Habits(mean_s={"": 120.0}, boot_s=180.0)
    assert [limit(gpus, short) for gpus in (2, 4, 8)] == [ALL, 1, 2]


def test_where_waiting_is_worth_much_small_tasks_may_use_large_machines() -> None:
    dear = Habits(mean_s={"": 600.0}, boot_s=180.0, wait_usd_per_hour=100.0)
    assert limit(8, MINUTES) > ALL
    assert limit(8, dear) == ALL


def test_where_gpus_of_large_machines_are_dearer_a_place_there_is_dearer_by_as_much() -> None:
    habits = Habits(mean_s={"": 600.0}, stretch={"": (1.0, 1.5, 1.8)}, boot_s=180.0, wait_usd_per_hour=6.0)
    alike, dear = (Alternative(1, 1.4), Alternative(4, 5.6)), (Alternative(1, 1.0), Alternative(4, 5.6))
    # One more pins it for 300 s: not more than it costs to boot one for this task, to wait for it, and to run there.
    own_usd, pinned_usd = 780 * 1.0 + 180 * 6.0, 300 * 5.6
    assert pinned_usd < own_usd < pinned_usd * 1.4
    assert Scale(alike, habits, "train").limit(an_offer(gpus=4, usd=5.6), 1) == ALL
    assert Scale(dear, habits, "train").limit(an_offer(gpus=4, usd=5.6), 1) == 1


def test_where_they_are_cheaper_a_place_costs_what_it_pins() -> None:
    habits = Habits(mean_s={"": 3600.0}, boot_s=180.0)
    cheap = (Alternative(1, 1.0), Alternative(2, 1.2))
    assert Scale(cheap, habits, "train").limit(an_offer(gpus=2, usd=1.2), 0) == 1


def test_a_machine_that_others_pin_anyhow_takes_small_tasks_too() -> None:
    alike = Habits(mean_s={"": 3600.0}, stretch={"": (1.0,) * 16})
    assert limit(8, alike, tasks=0) == 4
    assert limit(8, alike, tasks=1) == ALL


def test_each_queue_is_weighed_by_its_own_tasks() -> None:
    habits = Habits(mean_s={"short": 60.0, "long": 36000.0})
    scales = {queue: Scale(PROPORTIONAL, habits, queue) for queue in ("short", "long")}
    assert above_gpus(an_offer(gpus=2, usd=2.0), 0, scales) == [("long", 1.0)]
