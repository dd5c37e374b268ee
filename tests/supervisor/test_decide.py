"""When a supervisor stops pulling, pulls again and ends its machine, as values: a state in, instructions out."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.model import Reason, RunResult
from fleet.supervisor.decide import decide, is_last_look_due, next_deadline
from fleet.supervisor.instructions import Claim, EndMachine, ResumePulling, StopPulling, StopTask
from tests.supervisor.situations import POLICY, T0, WHY, a_state, a_task, at, claims, held


def test_an_idle_machine_stops_pulling_and_ends():
    state = a_state(at=at(600))
    assert decide(state, POLICY) == (
        StopPulling(reason=(why := Reason(code="idle", text="no task for 600 s", limit="idle_timeout=600s"))),
        EndMachine(reason=why),
    )
    assert decide(a_state(at=at(599)), POLICY) == ()


def test_without_an_idle_timeout_a_machine_waits_for_ever():
    assert decide(a_state(at=at(80_000)), replace(POLICY, idle_timeout=None)) == ()


def test_an_idle_machine_looks_once_more_into_the_queues_before_it_ends():
    state = a_state(at=at(600.2), peeked_at=at(599))
    assert decide(state, POLICY) == ()
    assert is_last_look_due(state, POLICY)
    assert decide(state._replace(peeked_at=at(600.1), waiting=(a_task("a"),)), POLICY) == (
        Claim(task=a_task("a"), gpus=("g0",)),
    )
    assert not is_last_look_due(state._replace(peeked_at=at(600.1)), POLICY)
    assert isinstance(decide(state._replace(at=at(601)), POLICY)[-1], EndMachine)  # the server does not answer


def test_a_machine_with_a_task_is_not_idle():
    assert decide(a_state(at=at(6000), held=(held("a", 0),)), POLICY) == ()


def test_a_drain_order_stops_pulling_and_ends_the_machine_when_it_is_empty():
    busy = a_state(drain=WHY, held=(held("a", 0),), waiting=(a_task("b"),))
    assert decide(busy, POLICY) == (StopPulling(reason=WHY, is_for_good=False),)
    assert decide(busy._replace(stopped_pulling=WHY), POLICY) == ()
    assert decide(a_state(drain=WHY, stopped_pulling=WHY), POLICY) == (EndMachine(reason=WHY),)


def test_a_drain_order_that_is_taken_back_lets_a_machine_pull_again():
    drained = a_state(stopped_pulling=WHY, is_stopped_for_good=False, held=(held("a", 0),), waiting=(a_task("b"),))
    assert decide(drained._replace(drain=WHY), POLICY) == ()
    assert decide(drained, POLICY) == (ResumePulling(),)
    assert claims(drained._replace(stopped_pulling=None)) == [("b", ("g1",))]


def test_a_machine_that_grew_too_old_while_it_drained_does_not_pull_again():
    drained = a_state(at=at(24 * 3600), stopped_pulling=WHY, is_stopped_for_good=False, held=(held("a", 0),))
    (stop,) = decide(drained, POLICY)
    assert (stop.reason.code, stop.is_for_good) == ("max_lifetime", True)
    assert decide(drained._replace(stopped_pulling=stop.reason, is_stopped_for_good=True), POLICY) == ()


def test_an_end_order_after_a_drain_is_for_good():
    drained = a_state(end=WHY, stopped_pulling=WHY, is_stopped_for_good=False, held=(held("a", 0, is_stopping=True),))
    assert decide(drained, POLICY) == (StopPulling(reason=WHY),)


def test_who_has_stopped_pulling_for_good_does_not_begin_again():
    assert claims(a_state(stopped_pulling=WHY, drain=None, waiting=(a_task("a"),))) == []


def test_an_end_order_puts_the_tasks_back_and_ends_when_they_are_gone():
    busy = a_state(end=WHY, held=(held("a", 0), held("b", 1, is_stopping=True)))
    assert decide(busy, POLICY) == (StopTask(task="a", reason=WHY, then=RunResult.REQUEUED), StopPulling(reason=WHY))
    assert decide(a_state(end=WHY, stopped_pulling=WHY), POLICY) == (EndMachine(reason=WHY),)


def test_a_machine_does_not_end_before_the_server_knows_what_became_of_its_tasks():
    state = a_state(drain=WHY, stopped_pulling=WHY, unsent=frozenset({"a"}))
    assert decide(state, POLICY) == ()
    assert decide(state._replace(server_seen_at=at(10 - 300)), POLICY) == (EndMachine(reason=WHY),)


def test_at_its_maximum_lifetime_a_machine_drains():
    state = a_state(at=at(24 * 3600), held=(held("a", 0),))
    (stop,) = decide(state, POLICY)
    assert (stop.reason.code, stop.reason.limit) == ("max_lifetime", "max_lifetime=86400s")


def test_without_the_server_and_the_centre_tasks_are_ended_before_others_get_them():
    state = a_state(at=at(1000), held=(held("a", 0),), server_seen_at=at(700), centre_seen_at=at(650))
    stop, quit_pulling = decide(state, POLICY)
    assert (stop.task, stop.then, stop.reason.code) == ("a", RunResult.REQUEUED, "contact_lost")
    assert quit_pulling == StopPulling(reason=stop.reason)
    assert decide(state._replace(held=(), unsent=frozenset({"a"})), POLICY)[-1] == EndMachine(reason=stop.reason)


@pytest.mark.parametrize("silent", ["server_seen_at", "centre_seen_at"])
def test_one_of_the_two_is_contact_enough_to_go_on_with_tasks(silent: str):
    assert decide(a_state(at=at(1000), held=(held("a", 0),), **{silent: T0}), POLICY) == ()


def test_the_next_deadline_is_the_first_that_time_alone_brings():
    assert next_deadline(a_state(), POLICY) == at(10 + 300)  # contact
    assert next_deadline(a_state(at=at(599), peeked_at=at(598)), POLICY) == at(600)  # idle
    assert next_deadline(a_state(at=at(600)), POLICY) == at(601)  # the last look is over
    never = replace(POLICY, idle_timeout=None, max_lifetime=None, contact_timeout=timedelta(days=9))
    assert next_deadline(a_state(), never) == at(10) + timedelta(days=9)


def test_who_is_kept_awake_does_not_end_and_is_given_the_whole_idle_time_once_more():
    state = a_state(at=at(700), peeked_at=at(700), awake_at=at(695))
    assert decide(state, POLICY) == ()
    assert next_deadline(state._replace(server_seen_at=at(700), centre_seen_at=at(700)), POLICY) == at(1000)
    assert next_deadline(state._replace(server_seen_at=at(1200)), POLICY) == at(695 + 600)
    gone = state._replace(at=at(1295), peeked_at=at(1295), server_seen_at=at(1290))
    assert decide(gone, POLICY)[-1].reason.code == "idle"


def test_nothing_that_keeps_it_awake_stops_an_order_or_an_age():
    awake = a_state(at=at(24 * 3600), peeked_at=at(24 * 3600), awake_at=at(24 * 3600), server_seen_at=at(24 * 3600))
    assert decide(awake, POLICY)[-1].reason.code == "max_lifetime"
    assert decide(awake._replace(at=at(20), awake_at=at(20), drain=WHY), POLICY)[-1] == EndMachine(reason=WHY)


def test_a_machine_that_is_too_old_and_not_empty_puts_its_tasks_back_where_no_dispatcher_did_it():
    old = 24 * 3600 + 16 * 60
    state = a_state(at=at(old), held=(held("a", 0),), stopped_pulling=WHY, server_seen_at=at(old))
    (stop,) = decide(state, POLICY)
    assert (stop.task, stop.then, stop.reason.code) == ("a", RunResult.REQUEUED, "max_lifetime")
    assert decide(state._replace(at=at(old - 1)), POLICY) == ()
    assert next_deadline(state._replace(at=at(old - 1)), POLICY) == at(old)


def test_a_machine_whose_startup_hooks_are_not_done_by_the_boot_deadline_ends():
    policy = replace(POLICY, boot_timeout=timedelta(seconds=90))
    state = a_state(at=at(90), has_started_up=False, idle_since=None)
    stop, end = decide(state, policy)
    assert (end.reason.code, end.reason.limit) == ("boot_timeout", "boot_timeout=90s")
    assert stop == StopPulling(reason=end.reason)
    assert decide(state._replace(at=at(89)), policy) == ()
    assert next_deadline(state._replace(at=at(89)), policy) == at(90)
    assert decide(state._replace(has_started_up=True), policy) == ()
