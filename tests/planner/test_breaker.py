"""When a breaker opens, when it tries, and when it closes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from fleet.planner.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker, Trial, judge, judge_fleet
from tests.builders import T0


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def a_trial(minute: float, lived: float | None = 1, **changes: Any) -> Trial:
    base = Trial(
        instance=f"i{minute:g}",
        resource="gpu",
        requested_at=at(minute),
        ended_at=None if lived is None else at(minute + lived),
        end_code="boot_timeout",
        end_text="no supervisor enrolled",
    )
    return replace(base, **changes)


def failures(count: int, **changes: Any) -> list[Trial]:
    return [a_trial(10 * n, **changes) for n in range(count)]


def opened(trials: list[Trial], minutes: float = 100, **changes: Any) -> Breaker:
    breaker = judge(trials, at(minutes), **changes)
    assert breaker
    return breaker


def test_four_failures_are_bad_luck_and_five_are_not() -> None:
    assert judge(failures(FAILURES - 1), at(100)) is None
    breaker = opened(failures(FAILURES))
    assert (breaker.opened_at, breaker.failures) == (at(41), FAILURES)
    assert breaker.until == at(41) + FIRST_PAUSE
    assert breaker.cause == "i40 ended: no supervisor enrolled"


def test_a_machine_that_works_closes_it_if_it_was_launched_later() -> None:
    assert judge([*failures(9), a_trial(95, None, has_worked=True)], at(100)) is None
    assert judge([a_trial(-5, None, has_worked=True), *failures(9)], at(100)) is not None


@pytest.mark.parametrize(
    "code", ["operator", "preempted", "max_lifetime", "return_to_spot", "budget_drain", "budget_stop"]
)
def test_ends_that_somebody_wanted_do_not_count(code: str) -> None:
    assert judge(failures(50, end_code=code), at(1000)) is None


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    trials, pauses = failures(FAILURES), []
    for _ in range(7):
        breaker = opened(trials)
        last = max(t.ended_at for t in trials if t.ended_at)
        pauses.append(breaker.until - last)
        trials.append(a_trial((breaker.until - T0) / timedelta(minutes=1)))
    assert pauses[:4] == [FIRST_PAUSE * 2**n for n in range(4)]
    assert pauses[-1] == LONGEST_PAUSE


def test_while_a_probe_is_there_no_other_is_launched() -> None:
    breaker = opened([*failures(FAILURES), a_trial(60, None)])
    assert (breaker.probe, breaker.is_half_open(at(70))) == ("i60", False)
    assert opened(failures(FAILURES)).is_half_open(at(52))
    assert not opened(failures(FAILURES)).is_half_open(at(50))


def test_a_burst_that_found_nothing_to_do_is_one_round_and_no_failure_of_the_machines() -> None:
    assert judge([a_trial(0, 10, instance=f"i{n}", end_code="idle") for n in range(50)], at(100)) is None


def test_machines_launched_again_and_again_for_tasks_that_none_takes_open_it() -> None:
    assert judge([a_trial(11 * n, 10, end_code="idle") for n in range(4)], at(100)) is None
    assert opened([a_trial(11 * n, 10, end_code="idle") for n in range(5)]).opened_at == at(54)


def test_idle_machines_whose_tasks_failed_at_once_are_broken() -> None:
    trials = [a_trial(0, 10, instance=f"i{n}", end_code="idle", has_held=True) for n in range(FAILURES)]
    assert opened(trials).failures == FAILURES


def test_an_operators_reset_forgets_what_was_launched_before() -> None:
    assert judge(failures(9), at(100), at(95)) is None
    assert judge([*failures(9), *[a_trial(96 + n) for n in range(5)]], at(120), at(95)) is not None


def test_two_open_resources_and_nothing_that_works_stop_the_whole_fleet() -> None:
    gpu, big = failures(FAILURES), failures(FAILURES, resource="big")
    both = [opened(gpu), opened(big)]
    fleet = judge_fleet([*gpu, *big], both)
    assert fleet
    assert (fleet.resource, fleet.failures) == (None, 2 * FAILURES)
    assert judge_fleet(gpu, both[:1]) is None
    assert judge_fleet([*gpu, *big, a_trial(60, None, resource="small", has_worked=True)], both) is None
