"""Gangs in virtual time: the first task starts the others as the SDK does, and all run at once or none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.simulate.agenda import EPOCH
from fleet.simulate.setting import Outcome
from fleet.simulate.trace import task_id
from tests.builders import a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, jobs, run


def nodes(outcome: Outcome, place: int) -> list[tuple[str, float]]:
    """Where and when the nodes of the gang at this place of the workload started."""
    first = task_id(place)
    return [
        (a.instance, (a.started_at - EPOCH).total_seconds())
        for a in outcome.truth.attempts
        if a.task == first or a.task.startswith(f"{first}.")
    ]


def test_a_gang_of_three_starts_on_three_machines_that_boot_together() -> None:
    figures, outcome = run(a_setting(jobs(4, instances=3)))
    first, *others = sorted(round(at_s) for _, at_s in nodes(outcome, 0))
    # The first task puts the others into the queue, and who has looked at that moment looks again 2 s later.
    assert (first, len(others)) == (182, 2)
    assert set(others) <= {182, 184}
    assert len({machine for machine, _ in nodes(outcome, 0)}) == 3
    assert (figures.instances_launched, figures.completed, figures.lost) == (3, 1, 0)


def test_a_gang_that_the_budget_cannot_hold_never_starts_and_holds_up_nobody() -> None:
    setting = a_setting([*jobs(4, instances=3), *jobs(*[1] * 12)], a_fleet([a_resource(max_instances=2)]))
    figures, outcome = run(setting)
    assert nodes(outcome, 0) == []
    assert (figures.completed, figures.failed) == (12, 1)


def test_a_gang_starts_though_small_tasks_never_end() -> None:
    fleet = a_fleet([a_resource(max_instances=2)])
    small = [job for n in range(300) for job in jobs(1, submit_s=n * 70)]
    setting = a_setting([*small, *jobs(4, submit_s=1000, instances=2)], fleet)
    place = next(n for n, job in enumerate(setting.workload) if job.instances > 1)
    _, outcome = run(setting)
    waited_s = nodes(outcome, place)[0][1] - 1000
    assert 1800 <= waited_s <= 1800 + 600 + 60
    assert len({machine for machine, _ in nodes(outcome, place)}) == 2


def test_two_gangs_that_want_the_same_machines_run_one_after_the_other() -> None:
    figures, outcome = run(a_setting(jobs(4, 4, instances=2), a_fleet([a_resource(max_instances=3)])))
    assert (figures.completed, figures.ran_twice_at_once) == (2, 0)
    first, second = nodes(outcome, 0), nodes(outcome, 1)
    assert max(at_s for _, at_s in first) + 600 <= min(at_s for _, at_s in second) + 2


def test_a_gang_in_one_zone_runs_in_one_zone() -> None:
    offers = [an_offer(zone="a"), an_offer(zone="b")]
    fleet = a_fleet([a_resource(max_instances=6)])
    workload = [*jobs(4, 4, 4), *jobs(4, submit_s=60, instances=3, is_one_zone=True)]
    _, outcome = run(a_setting(workload, fleet, offers))
    assert len({outcome.truth.lives[machine].offer.zone for machine, _ in nodes(outcome, 3)}) == 1


def test_a_gang_starts_in_a_fleet_that_keeps_machines_for_ever() -> None:
    fleet = a_fleet([a_resource(max_instances=2, min_instances=1, idle_timeout=timedelta(minutes=5))])
    figures, outcome = run(a_setting(jobs(4, submit_s=3600, instances=2), fleet))
    assert (figures.completed, figures.instances_launched) == (1, 2)
    assert all(at_s <= 3600 + 180 + 4 for _, at_s in nodes(outcome, 0))


def test_a_gang_that_no_machine_can_ever_hold_keeps_no_simulation_going() -> None:
    fleet = a_fleet([a_resource(min_instances=1, max_lifetime=timedelta(hours=6))])
    wide = [run(a_setting(jobs(4, gpus, instances=2), fleet))[1].ended_at for gpus in (4, 8)]
    assert wide[0] == wide[1]


@pytest.mark.parametrize(("of_fleet", "of_resource"), [(2, None), (None, 2)])
def test_a_gang_of_more_than_a_limit_ever_allows_keeps_no_simulation_going(
    of_fleet: int | None, of_resource: int | None
) -> None:
    resource = a_resource(min_instances=1, max_instances=of_resource, max_lifetime=timedelta(hours=6))
    fleet = a_fleet([resource], max_instances=of_fleet)
    figures, outcome = run(a_setting([*jobs(4), *jobs(4, instances=3)], fleet))
    assert (figures.completed, figures.failed) == (1, 1)
    assert outcome.ended_at < EPOCH + timedelta(hours=3)


def test_passes_at_every_tick_come_to_the_same_figures() -> None:
    workload = [*jobs(4, instances=2), *jobs(*[1] * 8, submit_s=30), *jobs(2, submit_s=700, instances=3)]
    setting = a_setting(workload, a_fleet([a_resource(max_instances=3, idle_timeout=timedelta(minutes=5))]))
    assert run(setting)[0] == run(replace(setting, is_dense=True))[0]
