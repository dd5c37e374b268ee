"""A minimum, headroom and windows in virtual time: what people find when they come, and what it costs when they are gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from fleet.model import Window
from fleet.simulate.agenda import EPOCH, after
from fleet.simulate.setting import Outcome
from tests.builders import a_queue, a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, jobs, run, starts_s

DAY_S = 86400
HOUR_S = 3600
WEEKDAYS = Window(cron="0 8 * * 1-5", lasts=timedelta(hours=10), min_instances=4)


def at_once(outcome: Outcome, at: datetime) -> int:
    """How many machines ran then."""
    lives = outcome.truth.lives.values()
    return sum(1 for life in lives if life.launched_at <= at and (life.ended_at is None or life.ended_at > at))


def test_a_kept_machine_waits_for_its_next_task_however_long() -> None:
    fleet = a_fleet([a_resource(min_instances=1)])
    figures, outcome = run(a_setting([*jobs(1), *jobs(1, submit_s=8 * HOUR_S)], fleet))
    assert figures.instances_launched == 1
    assert starts_s(outcome) == [180, 8 * HOUR_S]


def test_what_a_minimum_does_not_need_ends_at_its_idle_timeout() -> None:
    fleet = a_fleet([a_resource(min_instances=1)])
    _, outcome = run(a_setting([*jobs(4, 4), *jobs(1, submit_s=8 * HOUR_S)], fleet))
    assert [at_once(outcome, after(s)) for s in (700, 180 + 600 + 601, 7 * HOUR_S)] == [2, 1, 1]


def test_a_weekday_minimum_is_there_a_boot_after_its_window_opens_and_gone_when_it_closes_if_idle_so_long() -> None:
    fleet = a_fleet([a_resource(schedule=(WEEKDAYS,))])
    # Monday to the next Monday, with one task each Tuesday and Sunday noon.
    workload = [*jobs(1, submit_s=DAY_S * 1.5), *jobs(1, submit_s=DAY_S * 6.5), *jobs(1, submit_s=DAY_S * 7.5)]
    _, outcome = run(a_setting(workload, fleet))
    found = {hour: at_once(outcome, EPOCH + timedelta(days=1, hours=hour)) for hour in (7.99, 8.01, 12, 17.99, 18.01)}
    assert found == {7.99: 0, 8.01: 4, 12: 4, 17.99: 4, 18.01: 0}
    assert at_once(outcome, EPOCH + timedelta(days=5, hours=11)) == 0
    # Tuesday's task met a machine that was ready; Sunday's had to wait for one.
    assert starts_s(outcome)[:2] == [DAY_S * 1.5, DAY_S * 6.5 + 180]


def test_headroom_keeps_waiting_at_nothing_for_a_slow_stream() -> None:
    workload = [job for n in range(12) for job in jobs(1, submit_s=HOUR_S + n * 3600, duration_s=1500)]
    warm, _ = run(a_setting(workload, a_fleet(queues=[a_queue(headroom=1)]), [an_offer(gpus=1)]))
    cold, _ = run(a_setting(workload, a_fleet(), [an_offer(gpus=1)]))
    assert (warm.wait_mean_s, cold.wait_mean_s > 15) == (0, True)
    assert warm.completed == 12


def test_at_the_end_of_a_windows_maximum_the_surplus_drains_and_no_task_is_killed() -> None:
    day = Window(cron="0 0 * * *", lasts=timedelta(hours=1), max_instances=3)
    fleet = a_fleet([a_resource(max_instances=1, idle_timeout=None, schedule=(day,))])
    workload = [*jobs(4, 4, 4, duration_s=2 * HOUR_S), *jobs(4, submit_s=90 * 60)]
    figures, outcome = run(a_setting(workload, fleet))
    assert [at_once(outcome, after(s)) for s in (HOUR_S - 1, 2 * HOUR_S, 2 * HOUR_S + 200)] == [3, 3, 1]
    assert (figures.busy_kills, figures.completed, figures.lost) == (0, 4, 0)


def test_a_closed_window_launches_nothing_until_it_opens() -> None:
    day = Window(cron="0 8 * * *", lasts=timedelta(hours=1), max_instances=3)
    fleet = a_fleet([a_resource(max_instances=0, schedule=(day,))])
    _, outcome = run(a_setting(jobs(1), fleet))
    assert starts_s(outcome) == [8 * HOUR_S + 180]


def test_no_pass_that_was_left_out_would_have_changed_anything() -> None:
    day = Window(cron="0 1 * * *", lasts=timedelta(hours=1), max_instances=3, min_instances=2)
    workload = [*jobs(1, 2), *jobs(4, 1, submit_s=3000), *jobs(2, 4, 4, submit_s=1.2 * HOUR_S)]
    for fleet in (
        a_fleet([a_resource(min_instances=1)]),
        a_fleet([a_resource(max_instances=2, schedule=(day,))]),
        a_fleet(queues=[a_queue(headroom=3)]),
        a_fleet(queues=[a_queue(headroom=3)], max_instances=2),
    ):
        setting = a_setting(workload, fleet)
        assert run(setting)[0] == run(replace(setting, is_dense=True))[0]
