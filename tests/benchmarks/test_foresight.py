"""What somebody who knows the future would pay."""

import pytest

from benchmarks.foresight import best_within
from fleet.simulate.trace import Submission


def a_task(submit_s: float, duration_s: float, gpus: float = 1) -> Submission:
    return Submission(submit_s=submit_s, gpus=gpus, duration_s=duration_s, queue="train")


def test_a_gap_shorter_than_a_boot_is_kept_and_a_longer_one_is_not() -> None:
    near = best_within([a_task(0, 1000), a_task(1100, 1000)], 180, 1000)
    assert near.over_bound_percent == pytest.approx(100 * (180 + 100) / 2000)
    assert near.wait_mean_s == 90
    far = best_within([a_task(0, 1000), a_task(2000, 1000)], 180, 1000)
    assert (far.over_bound_percent, far.wait_mean_s) == (pytest.approx(100 * 360 / 2000), 180)


def test_less_waiting_is_bought_with_longer_gaps() -> None:
    tasks = [a_task(2000.0 * n, 1000) for n in range(10)]
    patient, hurried = best_within(tasks, 180, 180), best_within(tasks, 180, 20)
    assert (patient.wait_mean_s, hurried.wait_mean_s) == (180, 18)
    assert patient.over_bound_percent < hurried.over_bound_percent == pytest.approx(100 * (180 + 9000) / 10_000)


def test_machines_of_one_width_are_of_no_use_to_tasks_of_another() -> None:
    tasks = [a_task(0, 1000, gpus=2), a_task(1100, 1000), a_task(1100, 1000)]
    singly, by_width = best_within(tasks, 180, 1000), best_within(tasks, 180, 1000, (1, 2))
    assert singly.over_bound_percent == pytest.approx(100 * 2 * (180 + 100) / 4000)
    assert by_width.over_bound_percent == pytest.approx(100 * (2 * 180 + 180 + 180) / 4000)
    assert (singly.wait_mean_s, by_width.wait_mean_s) == (60, 180)


def test_a_wide_task_waits_once_for_all_its_gpus() -> None:
    found = best_within([a_task(0, 1000, gpus=4)], 180, 1000)
    assert (found.over_bound_percent, found.wait_mean_s) == (pytest.approx(18), 180)
