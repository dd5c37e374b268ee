"""What a fleet does with a workload, in virtual time, as sentences."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from unittest.mock import patch

import pytest

from fleet.dispatcher import passes
from fleet.model import GpuNeed
from fleet.planner.plan import plan
from fleet.simulate.agenda import EPOCH, after
from fleet.simulate.bill import Billed, most_at_once
from fleet.simulate.engine import Simulation
from fleet.simulate.figures import figures_of
from fleet.simulate.setting import Outcome
from fleet.simulate.workload import make_workload
from tests.builders import BECAUSE, a_queue, a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, jobs, run, starts_s


def bills(outcome: Outcome) -> list[Billed]:
    return [Billed(life, outcome.ended_at) for life in outcome.truth.lives.values()]


def test_eight_tasks_on_one_machine_of_four_gpus_run_four_at_a_time_and_cost_exactly_their_time() -> None:
    figures, outcome = run(a_setting(jobs(*[1] * 8), a_fleet([a_resource(max_instances=1)])))
    assert starts_s(outcome) == [180] * 4 + [780] * 4
    # Three minutes of boot, twice ten of work, ten of idleness, at $2 an hour.
    assert (figures.usd, figures.instances_launched, figures.completed) == (1.1, 1, 8)
    assert (figures.wait_mean_s, figures.wait_p95_s, figures.makespan_s) == (480, 780, 1380)
    assert (figures.gpu_hours_used, figures.gpu_hours_billed) == (1.3333, 2.2)
    assert figures.usd_lower_bound == 0.6667


def test_without_a_limit_eight_tasks_get_two_machines_at_once() -> None:
    figures, outcome = run(a_setting(jobs(*[1] * 8)))
    assert starts_s(outcome) == [180] * 8
    assert figures.instances_launched == 2


def test_an_idle_machine_ends_at_its_idle_timeout() -> None:
    fleet = a_fleet([a_resource(idle_timeout=timedelta(minutes=3))])
    _, outcome = run(a_setting(jobs(1), fleet))
    (life,) = outcome.truth.lives.values()
    assert life.ended_at == after(180 + 600 + 180)


def test_a_task_that_comes_within_the_idle_timeout_starts_at_the_next_look_and_needs_no_second_machine() -> None:
    figures, outcome = run(a_setting([*jobs(1), *jobs(1, submit_s=1000.5)]))
    assert starts_s(outcome) == [180, 1002]
    assert figures.instances_launched == 1


def test_a_machine_is_billed_for_a_minute_at_least() -> None:
    fleet = a_fleet([a_resource(idle_timeout=timedelta(seconds=5))])
    figures, _ = run(a_setting(jobs(1, duration_s=10), fleet, boot_time=timedelta(seconds=20)))
    assert figures.usd == round(60 / 3600 * 2, 4)


def test_max_instances_is_exceeded_at_no_instant() -> None:
    workload = make_workload(150, 0.3, seed=5, sizes={1: 3, 4: 1})
    figures, outcome = run(a_setting(workload, a_fleet(max_instances=3)))
    assert most_at_once(bills(outcome)) == 3
    assert figures.completed == 150


def test_dollars_an_hour_are_exceeded_at_no_instant() -> None:
    workload = make_workload(150, 0.3, seed=6, sizes={1: 3, 4: 1})
    figures, outcome = run(a_setting(workload, a_fleet(usd_per_hour=5)))
    assert most_at_once(bills(outcome)) == 2
    assert (figures.completed, figures.budget_overshoot_usd) == (150, 0)


def test_a_task_that_no_shape_can_hold_counts_as_failed_and_costs_nothing() -> None:
    figures, outcome = run(a_setting(jobs(8)))
    assert (figures.completed, figures.failed, figures.lost, figures.usd) == (0, 1, 0, 0)
    assert list(outcome.why_waiting) == ["needs 8 GPUs; the largest of its resources (gpu) has 4"]


def test_parts_of_a_gpu_run_side_by_side_and_count_as_what_they_are() -> None:
    figures, outcome = run(a_setting(jobs(*[0.5] * 8), a_fleet([a_resource(max_instances=1)])))
    assert (starts_s(outcome), figures.instances_launched) == ([180] * 8, 1)
    assert (figures.gpu_hours_used, figures.usd_lower_bound) == (0.6667, 0.3333)


def test_a_task_of_whole_gpus_waits_until_parts_have_left_them_and_no_new_part_comes_before_it() -> None:
    fleet = a_fleet([a_resource(max_instances=1)])
    workload = [*jobs(0.5, 0.5), *jobs(0.3, duration_s=1200), *jobs(2, submit_s=300), *jobs(0.5, submit_s=301)]
    _, outcome = run(a_setting(workload, fleet, [an_offer(gpus=2)]))
    assert {a.task: (a.started_at - EPOCH).total_seconds() for a in outcome.truth.attempts} == {
        "t000000": 180,
        "t000001": 180,
        "t000002": 180,
        "t000003": 1380,
        "t000004": 1980,
    }


def test_tasks_that_can_never_start_do_not_keep_those_behind_them_from_starting() -> None:
    figures, outcome = run(a_setting(jobs(*[8] * 150, 1)))
    assert (figures.failed, figures.completed, starts_s(outcome)) == (150, 1, [180])


def test_a_task_of_its_own_wish_takes_its_gpus_and_not_its_queues() -> None:
    queue = a_queue(gpus=4)
    _, outcome = run(a_setting(jobs(2), a_fleet(queues=[queue])))
    assert [attempt.gpus for attempt in outcome.truth.attempts] == [2]


def test_a_task_that_asks_for_a_gpu_type_runs_on_no_other() -> None:
    fleet = a_fleet([a_resource("old"), a_resource("new")])
    offers = [an_offer("old", gpu_model="T4"), an_offer("new", gpu_model="A100")]
    _, outcome = run(a_setting(jobs(1, gpu_type="a100"), fleet, offers))
    assert [life.offer.resource for life in outcome.truth.lives.values()] == ["new"]


def test_the_more_urgent_queue_is_served_first() -> None:
    queues = [a_queue("train"), a_queue("urgent", priority=5)]
    fleet = a_fleet([a_resource(max_instances=1)], queues)
    workload = [*jobs(4), *jobs(4, queue="urgent")]
    _, outcome = run(a_setting(workload, fleet))
    assert [attempt.task for attempt in outcome.truth.attempts] == ["t000001", "t000000"]


def test_cpu_tasks_take_slots_and_no_gpus() -> None:
    queue = a_queue(gpus=0, slots=2, need=GpuNeed(at_least=0, at_most=0))
    fleet = a_fleet([a_resource(max_instances=1)], [queue])
    figures, outcome = run(a_setting(jobs(0, 0, 0), fleet))
    assert starts_s(outcome) == [180, 180, 780]
    assert (figures.gpu_hours_used, figures.usd_lower_bound) == (0, 0)


def test_kept_machines_are_billed_until_the_simulation_ends_which_it_does() -> None:
    figures, outcome = run(a_setting(jobs(1), a_fleet([a_resource(min_instances=1)])))
    assert figures.completed == 1
    assert outcome.ended_at < EPOCH + timedelta(hours=3)


def test_a_machine_that_boots_longer_than_its_boot_timeout_is_given_up() -> None:
    resource = a_resource(boot_timeout=timedelta(minutes=2))
    fleet = a_fleet([resource], max_instances=1)
    simulation = Simulation(a_setting(jobs(1), fleet, boot_time=timedelta(minutes=3)))
    simulation.agenda.add(after(3600), lambda: simulation.server.ask_to_stop("t000000"))
    outcome = simulation.run()
    lengths = {life.ended_at - life.launched_at for life in outcome.truth.lives.values() if life.ended_at}
    assert lengths == {timedelta(seconds=122)}


def test_an_empty_workload_costs_nothing() -> None:
    figures, _ = run(a_setting([]))
    assert set(asdict(figures).values()) == {0}


def test_the_same_seed_gives_the_same_figures() -> None:
    setting = a_setting(make_workload(80, 0.2, seed=1))
    assert run(setting)[0] == run(setting)[0]


def test_no_pass_that_was_left_out_would_have_changed_anything() -> None:
    workload = make_workload(40, 0.05, seed=2, sizes={1: 3, 2: 1, 4: 1}, median_s=300, spread=0.7)
    for fleet in (a_fleet(), a_fleet(max_instances=2), a_fleet(usd_per_hour=4.5)):
        setting = a_setting(workload, fleet)
        (sparse, some), (dense, all_of_them) = run(setting), run(replace(setting, is_dense=True))
        assert sparse == dense
        assert all_of_them.passes > 10 * some.passes


def test_a_launch_that_reaches_a_limit_lets_large_machines_take_what_waits_at_once() -> None:
    """The idle machine of four GPUs leaves the task to a smaller one, until no smaller one can be had."""
    offers = (an_offer(gpus=1, usd=1.0), an_offer(gpus=4, usd=4.0))
    setting = a_setting([*jobs(4), *jobs(1, submit_s=1000, duration_s=3000)], a_fleet(max_instances=2), offers)
    (sparse, outcome), (dense, _) = run(setting), run(replace(setting, is_dense=True))
    assert sparse == dense
    assert starts_s(outcome)[-1] < 1000 + 10


def test_a_backlog_at_a_limit_is_planned_when_something_changes_not_for_each_task_that_goes() -> None:
    setting = a_setting([jobs(1, duration_s=300 + 7 * n)[0] for n in range(40)], a_fleet(max_instances=2))
    (sparse, _), (dense, _) = run(setting), run(replace(setting, is_dense=True))
    assert sparse == dense
    plans = []
    with patch.object(passes, "plan", lambda snapshot: plans.append(snapshot) or plan(snapshot)):
        run(setting)
    assert len(plans) < 20


# --- the meters measure


def test_a_healthy_machine_that_is_ended_under_its_task_is_counted_and_the_task_runs_again() -> None:
    setting = a_setting(jobs(1))
    simulation = Simulation(setting)
    simulation.agenda.add(
        after(300), lambda: simulation.store.request_terminate(the_first(simulation), BECAUSE, after(300))
    )
    figures = figures_of(setting, simulation.run(), 0.0)
    assert (figures.busy_kills, figures.completed, figures.lost, figures.instances_launched) == (1, 1, 0, 2)


def test_a_machine_that_the_store_takes_for_gone_is_an_orphan_and_its_task_runs_twice() -> None:
    setting = a_setting(jobs(1, duration_s=7200))
    simulation = Simulation(setting)
    simulation.agenda.add(after(300), lambda: simulation.store.note_gone(the_first(simulation), BECAUSE, after(300)))
    simulation.agenda.add(after(301), lambda: simulation.request_pass(after(302)))
    figures = figures_of(setting, simulation.run(), 0.0)
    # It was seen as a stranger at the pass of 302 s, and ended after a minute of grace.
    assert figures.orphan_instance_s == pytest.approx(62, abs=2)
    assert figures.completed == 1


def the_first(simulation: Simulation) -> str:
    return next(iter(simulation.truth.lives))
