"""What a machine does under its cloud's notice: a state in, instructions out."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.model import Notice, OnRebalance, Reason, RunResult
from fleet.queues.base import TaskStatus
from fleet.supervisor.decide import decide, next_deadline
from fleet.supervisor.instructions import EndMachine, ResumePulling, StopPulling, StopTask
from fleet.supervisor.situation import Sighting
from tests.supervisor.situations import POLICY, WHY, a_state, a_task, at, held


def preemption(left_s: float = 120) -> Notice:
    return Notice(kind="preemption", at=at(10), deadline=at(10 + left_s), text="the cloud takes it back")


def maintenance(left_s: float = 7200) -> Notice:
    return Notice(kind="maintenance", at=at(10), deadline=at(10 + left_s), text="a reboot is scheduled")


REBALANCE = Notice(kind="rebalance", at=at(10), deadline=None, text="a risk")
PREEMPTED = Reason(code="preempted", text="the cloud takes it back")
MAINTAINED = Reason(code="maintenance", text="a reboot is scheduled")
AT_RISK = Reason(code="rebalance", text="a risk")


def back(task: str, reason: Reason, kill_at_s: float) -> StopTask:
    return StopTask(task=task, reason=reason, then=RunResult.REQUEUED, kill_at=at(kill_at_s))


def test_a_preempted_machine_pulls_no_more_and_asks_its_tasks_at_once_to_save_themselves_in_nearly_all_that_is_left():
    state = a_state(held=(held("a", 0), held("b", 1)), waiting=(a_task("c"),), notice=preemption(120))
    stopped = StopPulling(reason=PREEMPTED)
    assert decide(state, POLICY) == (back("a", PREEMPTED, 120), back("b", PREEMPTED, 120), stopped)


@pytest.mark.parametrize(("left_s", "for_tasks_s"), [(120, 110), (30, 20), (12, 6), (0, 0), (-5, 0)])
def test_what_is_left_is_for_the_tasks_but_for_the_way_back(left_s, for_tasks_s):
    state = a_state(held=(held("a", 0),), notice=preemption(left_s))
    assert decide(state, POLICY)[0] == back("a", PREEMPTED, 10 + for_tasks_s)


def test_a_preempted_machine_that_holds_nothing_ends():
    ends = (StopPulling(reason=PREEMPTED), EndMachine(reason=PREEMPTED))
    assert decide(a_state(notice=preemption()), POLICY) == ends


def test_a_machine_that_drains_for_another_reason_is_preempted_all_the_same():
    known = {"held": (held("a", 0),), "notice": preemption(), "stopped_pulling": WHY}
    for more in ({"drain": WHY, "is_stopped_for_good": False}, {}):
        decided = decide(a_state(**known, **more), POLICY)
        assert decided == (back("a", PREEMPTED, 120), StopPulling(reason=PREEMPTED))
    told = a_state(**known)._replace(stopped_pulling=PREEMPTED, held=(held("a", 0, is_stopping=True),))
    assert decide(told, POLICY) == ()


def test_a_task_whose_user_asked_for_its_end_is_stopped_and_not_put_back():
    asked = Sighting(status=TaskStatus.IN_PROGRESS, times=1, is_stop_asked=True, stop_asked_at=at(9))
    saves = replace(asked, abort_callback_s=30.0)
    stopping = held("a", 0, sighting=asked)
    decided = decide(a_state(held=(stopping, held("b", 1, sighting=saves)), notice=preemption()), POLICY)
    assert [(s.task, s.then) for s in decided if isinstance(s, StopTask)] == [("a", RunResult.STOPPED)]


def test_maintenance_lets_tasks_end_until_two_minutes_before():
    state = a_state(held=(held("a", 0),), notice=maintenance(7200))
    assert decide(state, POLICY) == (StopPulling(reason=MAINTAINED, is_for_good=False),)
    drains = state._replace(stopped_pulling=MAINTAINED, is_stopped_for_good=False)
    policy = replace(POLICY, contact_timeout=timedelta(days=1), max_lifetime=None)
    assert next_deadline(drains, policy) == at(10 + 7080)
    late = drains._replace(at=at(10 + 7080), server_seen_at=at(7090), centre_seen_at=at(7090))
    assert decide(late, policy) == (back("a", MAINTAINED, 10 + 7190),)


def test_maintenance_that_is_cancelled_lets_the_machine_pull_again():
    drains = a_state(held=(held("a", 0),), stopped_pulling=MAINTAINED, is_stopped_for_good=False)
    assert decide(drains, POLICY) == (ResumePulling(),)


@pytest.mark.parametrize(
    ("on_rebalance", "decided"),
    [
        (OnRebalance.DRAIN, (StopPulling(reason=AT_RISK, is_for_good=False),)),
        (OnRebalance.REQUEUE, (back("a", AT_RISK, 130), StopPulling(reason=AT_RISK, is_for_good=False))),
        (OnRebalance.IGNORE, ()),
    ],
)
def test_what_a_risk_changes_is_the_fleet_files_choice(on_rebalance, decided):
    state = a_state(held=(held("a", 0),), notice=REBALANCE)
    assert decide(state, replace(POLICY, on_rebalance=on_rebalance)) == decided


def test_a_notice_of_a_kind_that_is_not_known_changes_nothing():
    strange = replace(REBALANCE, kind="eclipse")
    assert decide(a_state(held=(held("a", 0),), notice=strange), POLICY) == ()


def test_an_order_to_end_leaves_a_task_the_usual_grace_under_a_notice_too():
    decided = decide(a_state(held=(held("a", 0),), notice=preemption(), end=WHY), POLICY)
    assert decided[0] == StopTask(task="a", reason=WHY, then=RunResult.REQUEUED)


def test_a_machine_that_drains_by_a_time_asks_its_tasks_two_minutes_before_it_and_puts_them_back():
    drains = {"held": (held("a", 0),), "drain": WHY, "drain_by": at(600), "stopped_pulling": WHY}
    early = a_state(**drains, is_stopped_for_good=False)
    assert decide(early, POLICY) == ()
    assert next_deadline(early, POLICY) == at(310), "of contact, before that of the drain"
    assert next_deadline(a_state(**drains, at=at(400)), POLICY) == at(480)
    late = a_state(**drains, is_stopped_for_good=False, at=at(480))
    assert decide(late, POLICY) == (back("a", WHY, 590),)
    assert decide(late._replace(drain_by=None), POLICY) == ()
    assert decide(late._replace(at=at(700), server_seen_at=at(700)), POLICY) == (back("a", WHY, 700),)


def test_a_preemption_comes_before_the_time_of_a_drain():
    state = a_state(held=(held("a", 0),), drain=WHY, drain_by=at(20), stopped_pulling=PREEMPTED, notice=preemption(60))
    assert decide(state, POLICY) == (back("a", PREEMPTED, 60),)
