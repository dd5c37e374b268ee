"""How long tasks pin a machine together."""

from __future__ import annotations

import pytest

from fleet.model import Habits
from fleet.planner.stretch import FEWEST_SAMPLES, MOST_TASKS, mean_s, stretch, stretch_of


def test_tasks_that_last_alike_pin_a_machine_as_long_as_one() -> None:
    assert stretch_of([600.0] * 50) == pytest.approx([1.0] * MOST_TASKS)


def test_the_longest_of_two_coins_is_what_chance_says() -> None:
    # Half last 1, half 3: the mean is 2, and of two the longest is 3 in three cases of four.
    found = stretch_of([1.0, 3.0] * 50)
    assert found[:2] == pytest.approx([1.0, (1 * 0.25 + 3 * 0.75) / 2])


def test_more_tasks_never_pin_a_machine_for_less() -> None:
    found = stretch_of([1.0] * 95 + [100.0] * 5)
    assert list(found) == sorted(found)
    assert found[7] > 4


def test_too_few_tasks_and_tasks_of_no_length_teach_nothing() -> None:
    assert stretch_of([60.0] * (FEWEST_SAMPLES - 1)) == ()
    assert stretch_of([0.0] * 50) == ()


def test_an_unknown_queue_is_taken_to_be_like_all_others_and_without_any_tasks_end_about_together() -> None:
    habits = Habits(stretch={"": (1.0, 1.5), "long": (1.0, 4.0)}, mean_s={"": 60.0, "long": 7200.0})
    assert [stretch(habits, queue, 2) for queue in ("long", "new")] == [4.0, 1.5]
    assert [mean_s(habits, queue) for queue in ("long", "new")] == [7200.0, 60.0]
    assert 1 < stretch(Habits(), "new", 8) < 1.1
    assert mean_s(Habits(), "new") > 0


def test_of_more_tasks_than_are_told_apart_the_most_are_taken() -> None:
    assert stretch(Habits(stretch={"": (1.0, 1.5)}), "train", 99) == 1.5
