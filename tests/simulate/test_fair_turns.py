"""Shares, users and large tasks in virtual time, with the planner's and the supervisors' real decisions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fleet.dispatcher.parts import Policy
from fleet.model import Fairness
from fleet.simulate.agenda import EPOCH
from fleet.simulate.setting import Outcome
from fleet.simulate.trace import task_id
from tests.builders import a_queue, a_resource
from tests.simulate.nouns import a_fleet, a_setting, jobs, run, starts_s

A_MINUTE = timedelta(minutes=1)


def two_queues(machines: int = 1, **changes: Any) -> Policy:
    fleet = a_fleet([a_resource(max_instances=machines)], [a_queue("train", weight=3.0), a_queue("other")])
    return replace(fleet, **changes)


def gpu_seconds(outcome: Outcome, names: dict[str, str], until_s: float) -> Counter[str]:
    """By queue or user, up to that time."""
    used: Counter[str] = Counter()
    for a in outcome.truth.attempts:
        start = (a.started_at - EPOCH).total_seconds()
        end = ((a.ended_at or a.started_at) - EPOCH).total_seconds()
        used[names[a.task]] += int(a.gpus * max(min(end, until_s) - start, 0))
    return used


def test_queues_of_weight_three_and_one_get_three_gpus_and_one_though_all_of_one_came_first() -> None:
    workload = [*jobs(*[1] * 60), *jobs(*[1] * 60, submit_s=30, queue="other")]
    setting = a_setting(workload, two_queues(fairness=Fairness.SHARES))
    _, outcome = run(setting)
    names = {task_id(n): job.queue for n, job in enumerate(setting.workload)}
    used = gpu_seconds(outcome, names, until_s=7200)
    assert used["train"] == 3 * used["other"] > 0
    _, strict = run(replace(setting, policy=two_queues()))
    assert gpu_seconds(strict, names, until_s=7200)["other"] == 0


def test_shares_hold_over_several_machines_and_sizes_of_tasks() -> None:
    # No two end at one instant (machines would share out what is free by what each last heard of the others), and none goes
    # before its turn for having waited long.
    train = [jobs(2, duration_s=400 + 91 * n % 200)[0] for n in range(60)]
    other = [jobs(1, queue="other", duration_s=200 + 55 * n % 200)[0] for n in range(150)]
    fleet = two_queues(machines=4, fairness=Fairness.SHARES, starvation_after=None)
    setting = a_setting([*train, *other], fleet)
    (sparse, outcome), (dense, _) = run(setting), run(replace(setting, is_dense=True))
    assert sparse == dense
    names = {task_id(n): job.queue for n, job in enumerate(setting.workload)}
    used = gpu_seconds(outcome, names, until_s=3600)
    assert 2.3 < used["train"] / used["other"] < 3.7


def test_users_of_one_queue_share_it() -> None:
    fleet = a_fleet([a_resource(max_instances=1)], [a_queue(is_shared_by_users=True)])
    workload = [*jobs(*[1] * 40, user="many"), *jobs(*[1] * 4, submit_s=60, user="few")]
    setting = a_setting(workload, fleet)
    _, outcome = run(setting)
    starts = [outcome.truth.first_start[task_id(n)] for n, job in enumerate(setting.workload) if job.user == "few"]
    assert max(starts) <= EPOCH + timedelta(seconds=180 + 2 * 600)


def test_fair_passes_at_every_tick_come_to_the_same_figures() -> None:
    workload = [*jobs(*[1] * 20), *jobs(*[2] * 10, submit_s=30, queue="other")]
    setting = a_setting(workload, two_queues(machines=2, fairness=Fairness.SHARES))
    assert run(setting)[0] == run(replace(setting, is_dense=True))[0]


def flood(machines: int, **changes: Any) -> tuple[Outcome, str]:
    """Machines of four GPUs, for a day fed with urgent one-GPU tasks faster than they can be run, and one task of four."""
    fleet = a_fleet(
        [a_resource(max_instances=machines)],
        [a_queue("train"), a_queue("urgent", priority=1)],
        **changes.pop("budget", {}),
    )
    small = [job for n in range(400 * machines) for job in jobs(1, submit_s=n * 140 / machines, queue="urgent")]
    setting = a_setting([*small, *jobs(4, submit_s=1000)], replace(fleet, **changes))
    large = next(task_id(n) for n, job in enumerate(setting.workload) if job.gpus == 4)
    return run(setting)[1], large


def test_a_large_task_starts_within_a_bounded_time_though_urgent_small_ones_never_end() -> None:
    outcome, large = flood(3)
    waited = outcome.truth.first_start[large] - EPOCH - timedelta(seconds=1000)
    # Half an hour until it starves, and as long as the last task on its machine runs.
    assert timedelta(minutes=30) <= waited <= timedelta(minutes=30 + 10) + A_MINUTE


def test_without_a_limit_to_its_patience_it_waits_for_the_end_of_the_flood() -> None:
    outcome, large = flood(3, starvation_after=None)
    assert outcome.truth.first_start[large] - EPOCH > timedelta(hours=12)


def test_while_one_machine_empties_for_a_large_task_the_others_go_on() -> None:
    outcome, large = flood(3)
    started = outcome.truth.first_start[large]
    (its,) = {a.instance for a in outcome.truth.attempts if a.task == large}
    emptying = [a.instance for a in outcome.truth.attempts if started - timedelta(minutes=8) < a.started_at < started]
    assert its not in emptying
    assert len(set(emptying)) == 2
    assert len(emptying) > 4


def test_a_large_task_at_the_head_of_its_queue_is_not_passed_by_those_behind_it() -> None:
    fleet = a_fleet([a_resource(max_instances=2)])
    workload = [*jobs(3, 3, duration_s=900), *jobs(4, submit_s=60), *jobs(*[1] * 9, submit_s=120, duration_s=5000)]
    _, outcome = run(a_setting(workload, fleet))
    # A small one goes beside it on the other machine at once; the rest follows there, and here when the large one is done.
    assert sorted(starts_s(outcome)) == [180] * 3 + [1080] * 4 + [1680] * 4 + [5180]
    assert starts_s(outcome)[3] == 1080  # the large one, on the machine that was held for it
