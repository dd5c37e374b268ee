"""What other autoscalers come to: their shapes, and ClearML's own class, in virtual time."""

from dataclasses import replace
from datetime import timedelta

import pytest

from benchmarks import clearml_scaler
from benchmarks.clearml_scaler import Scaler
from benchmarks.shapes import Bill, Conditions, Habits, ShapeSimulation
from benchmarks.workloads import proportional
from fleet.model import Market
from fleet.simulate.faults import Faults
from fleet.simulate.trace import Submission

ON_DEMAND = Conditions(offers=proportional(Market.ON_DEMAND))
A_VM_EACH = Habits(idle_s=0, poll_s=10, is_a_vm_each=True)
SMALLEST = Habits(idle_s=600, poll_s=10)
OWN_WIDTH = replace(SMALLEST, is_kept_to_width=True)


def a_task(submit_s: float, gpus: float = 1, duration_s: float = 3600) -> Submission:
    return Submission(submit_s=submit_s, gpus=gpus, duration_s=duration_s, queue="train")


def run(habits: Habits, *tasks: Submission, conditions: Conditions = ON_DEMAND) -> Bill:
    return ShapeSimulation(tasks, habits, conditions).run()


def hours(seconds: float) -> float:
    return pytest.approx(seconds / 3600)  # type: ignore[no-any-return]


def test_a_vm_for_each_task_ends_with_it() -> None:
    bill = run(A_VM_EACH, a_task(5), a_task(5))
    assert (bill.machines, bill.waits_s) == (2, [185.0, 185.0])
    assert bill.usd == hours(2 * (180 + 3600))


def test_an_empty_machine_is_used_again_until_its_idle_time_is_over() -> None:
    bill = run(SMALLEST, a_task(0), a_task(4000), a_task(20_000))
    assert (bill.machines, bill.waits_s) == (2, [190.0, 0.0, 190.0])
    assert bill.usd == hours((7600 + 600 - 10) + (180 + 3600 + 600))


def test_small_tasks_use_large_machines_unless_each_keeps_to_its_width() -> None:
    tasks = a_task(0, gpus=8), a_task(4000, gpus=1)
    assert run(SMALLEST, *tasks).machines == 1
    assert run(OWN_WIDTH, *tasks).machines == 2


def test_tasks_that_wait_are_packed_into_what_boots() -> None:
    wide = replace(ON_DEMAND, offers=ON_DEMAND.offers[-1:])
    assert run(SMALLEST, a_task(0), *[a_task(20)] * 8, conditions=wide).machines == 2


def test_a_machine_that_is_taken_back_costs_progress_unless_there_are_checkpoints() -> None:
    faults = Faults(seed=3, spot_life=timedelta(hours=1))
    conditions = Conditions(offers=proportional(Market.SPOT), faults=faults)
    tasks = [a_task(600.0 * n, duration_s=5000) for n in range(20)]
    lost = run(SMALLEST, *tasks, conditions=conditions)
    kept = run(SMALLEST, *tasks, conditions=replace(conditions, checkpoint_s=60))
    assert lost.preempted > 0
    assert kept.usd < lost.usd
    assert len(lost.waits_s) == len(kept.waits_s) == 20


def test_clearmls_own_class_launches_keeps_and_ends_vms() -> None:
    bill, release = clearml_scaler.run([a_task(10), a_task(20), a_task(4000, gpus=8)], ON_DEMAND, Scaler())
    assert release == "2.1.12"
    assert bill.machines == 3
    assert bill.waits_s == [470.0, 460.0, 380.0]  # its next look, at 300 s and 4200 s, and the boot
    # It sees an idle worker at the look after the end, and ends it at the first look more than 15 minutes later.
    assert bill.usd == hours(2 * (5400 - 300) + 8 * (9300 - 4200))


def test_clearmls_own_class_sends_the_next_task_to_an_idle_worker() -> None:
    bill, _ = clearml_scaler.run([a_task(10, duration_s=60), a_task(700, duration_s=60)], ON_DEMAND, Scaler())
    assert (bill.machines, len(bill.waits_s)) == (1, 2)
    assert bill.waits_s[1] <= clearml_scaler.AGENT_POLLS_EVERY_S
