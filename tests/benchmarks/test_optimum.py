"""The exact optimum that plans are compared with, on worlds where a person sees it."""

import pytest

from benchmarks.optimum import a_world, least_usd_per_hour
from tests.builders import a_snapshot, a_task, an_instance, an_offer, tasks


def test_many_small_tasks_share_a_wide_machine_where_that_is_cheaper() -> None:
    offers = (an_offer(gpus=1, usd=1.0), an_offer(gpus=8, usd=6.0))
    assert [least_usd_per_hour(a_snapshot(offers=offers, tasks=tasks(n))) for n in (1, 5, 6, 8, 9)] == [1, 5, 6, 6, 7]


def test_sizes_are_mixed_on_one_machine() -> None:
    wanted = (a_task("a", 4), a_task("b", 2), a_task("c", 1), a_task("d", 0.5), a_task("e", 0.25))
    assert least_usd_per_hour(a_snapshot(offers=(an_offer(gpus=8, usd=5.0),), tasks=wanted)) == 5


def test_what_is_free_costs_nothing_and_is_counted_once() -> None:
    world = a_snapshot(offers=(an_offer(gpus=4, usd=4.0),), tasks=tasks(6), instances=(an_instance(gpus=4, held=1),))
    assert least_usd_per_hour(world) == 4


def test_a_wish_for_a_type_is_kept() -> None:
    cheap, dear = an_offer(gpus=1, usd=1.0, gpu_model="T4"), an_offer(gpus=1, usd=3.0, gpu_model="A100")
    wanted = (a_task("a", gpu_type="a100"), a_task("b"))
    assert least_usd_per_hour(a_snapshot(offers=(cheap, dear), tasks=wanted)) == 4


def test_what_no_machine_can_hold_does_not_count() -> None:
    assert least_usd_per_hour(a_snapshot(offers=(an_offer(gpus=4, usd=4.0),), tasks=tasks(1, gpus=8))) == 0


def test_worlds_are_made_from_seeds() -> None:
    assert a_world(7) == a_world(7)
    assert least_usd_per_hour(a_world(7)) == pytest.approx(least_usd_per_hour(a_world(7)))
    assert a_world(7) != a_world(8)
