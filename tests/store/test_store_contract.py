"""What every store does: fleet/store/base.py, held against memory, SQLite and PostgreSQL."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial

import pytest

from fleet.errors import StoreError
from fleet.model import Fairness, Hold, InstanceState, Reason, RunResult, Turns, Use, Vitals
from fleet.store.base import Store
from tests.store.nouns import (
    ALLOCATION,
    DEMAND,
    GPU0,
    IDLE,
    LATE,
    T0,
    a_run,
    a_view,
    an_event,
    an_instance,
    at,
    beat,
    holder,
    with_enrolled,
    with_instance,
)

# --- the lead


def test_one_dispatcher_leads_a_cluster_until_its_time_is_over(store: Store) -> None:
    assert store.take_lead("c", "a", T0, at(10))
    assert store.take_lead("c", "a", at(5), at(15)), "staying the lead"
    assert not store.take_lead("c", "b", at(6), at(16))
    assert store.take_lead("other", "b", at(6), at(16)), "of another cluster"
    assert store.take_lead("c", "b", at(15), at(25)), "the lead ran out"
    assert not store.take_lead("c", "a", at(16), at(26))


def test_a_lead_that_is_given_up_can_be_taken_at_once(store: Store) -> None:
    store.take_lead("c", "a", T0, at(10))
    store.give_up_lead("c", "b")
    assert not store.take_lead("c", "b", at(1), at(11)), "b had none to give up"
    store.give_up_lead("c", "a")
    assert store.take_lead("c", "b", at(1), at(11))


def all_at_once(*calls: Callable[[], object]) -> list[object]:
    """What each of these answers when all start together."""
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], object]) -> object:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(one, calls))


def test_of_many_who_ask_for_the_lead_at_once_one_gets_it(store: Store) -> None:
    for turn in range(5):
        now, until = at(100 * turn), at(100 * turn + 10)
        asks = [partial(store.take_lead, "c", name, now, until) for name in "abcd"]
        assert sorted(all_at_once(*asks), key=str) == [False, False, False, True]


# --- an instance's life


def test_an_instance_is_read_back_as_it_was_written(store: Store) -> None:
    store.record_intents([an_instance()])
    assert store.instance("i1") == an_instance()
    assert store.instances("c") == (an_instance(),)
    assert store.instances("other") == ()
    assert store.instance("i2") is None


def test_a_known_intent_is_left_as_it_is(store: Store) -> None:
    with_instance(store)
    store.note_launched("i1", "cloud-1", at(1))
    store.record_intents([an_instance(usd=99.0), an_instance("i2")])
    store.record_intents([])
    first, second = store.instances("c")
    assert (first.cloud_id, first.offer.price_usd_per_hour, second.id) == ("cloud-1", 3.6, "i2")


def test_intents_are_written_all_or_none(store: Store) -> None:
    broken = replace(an_instance("i2"), requested_at=None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r".") as error:
        store.record_intents([an_instance("i1"), broken])
    assert error.type is not AssertionError
    assert store.instances("c") == ()


def test_instances_are_listed_oldest_first_and_gone_ones_on_request(store: Store) -> None:
    store.record_intents([an_instance("new", requested_at=at(9)), an_instance("b"), an_instance("a")])
    store.record_intents([an_instance("late", requested_at=at(5))])
    store.note_gone("a", IDLE, at(100))
    store.note_gone("late", IDLE, at(50))
    assert [i.id for i in store.instances("c")] == ["b", "new"]
    assert [i.id for i in store.instances("c", gone_after=at(100))] == ["a", "b", "new"]
    assert [i.id for i in store.instances("c", gone_after=T0)] == ["a", "b", "late", "new"]


def test_the_first_confirmation_of_a_launch_stays(store: Store) -> None:
    with_instance(store)
    store.note_launched("i1", "cloud-1", at(1))
    store.note_launched("i1", "cloud-2", at(2))
    assert store.instance("i1") == replace(an_instance(), cloud_id="cloud-1", launched_at=at(1))


def test_an_instance_that_became_another_offer_is_counted_at_its_price(store: Store) -> None:
    with_instance(store)
    became = replace(an_instance().offer, type="other", zone="b", price_usd_per_hour=1.8)
    store.note_launched("i1", "cloud-1", at(0), became)
    store.note_launched("i1", "cloud-1", at(1))
    assert store.instance("i1") == replace(an_instance(), cloud_id="cloud-1", launched_at=at(0), offer=became)
    store.note_gone("i1", IDLE, at(3600))
    assert store.usd_since("c", T0, at(7200)) == pytest.approx(1.8)


def test_the_first_order_to_drain_and_its_reason_stay(store: Store) -> None:
    with_instance(store)
    store.request_drain("i1", IDLE, at(1))
    store.request_drain("i1", LATE, at(2))
    assert store.instance("i1") == replace(an_instance(), drain_requested_at=at(1), end_reason=IDLE)


def test_an_operators_order_to_drain_outdoes_one_that_fleet_would_take_back(store: Store) -> None:
    with_instance(store)
    by_hand = Reason(code="operator", text="it smells of smoke")
    store.request_drain("i1", Reason(code="surplus", text="one too many for the night"), at(1))
    store.request_drain("i1", by_hand, at(2))
    store.cancel_drain("i1", DEMAND, at(3))  # decided by what was before the operator's order
    assert store.instance("i1") == replace(an_instance(), drain_requested_at=at(1), end_reason=by_hand)


def test_the_last_time_that_was_given_for_a_drain_counts_until_the_drain_is_taken_back(store: Store) -> None:
    with_instance(store)
    store.request_drain("i1", IDLE, at(1))
    store.request_drain("i1", LATE, at(2), by=at(600))
    store.request_drain("i1", LATE, at(3))
    assert store.instance("i1") == replace(
        an_instance(), drain_requested_at=at(1), drain_by=at(600), end_reason=IDLE
    ), "an order without a time leaves the time that was given"
    store.request_drain("i1", LATE, at(4), by=at(300))
    instance = store.instance("i1")
    assert instance
    assert instance.drain_by == at(300)
    store.cancel_drain("i1", DEMAND, at(5))
    assert store.instance("i1") == an_instance()


def test_what_keeps_a_machine_awake_is_known_as_long_as_it_says_so(store: Store) -> None:
    with_enrolled(store)
    awake = Reason(code="kept_awake", text="idle, but kept awake: somebody is logged in")
    assert beat(store, when=at(61), reason=awake, idle_since=at(60)).kept_awake == awake
    assert beat(store, when=at(62), idle_since=at(60)).kept_awake is None
    beat(store, when=at(63), reason=awake, idle_since=at(60))
    stopped = beat(store, when=at(64), is_pulling=False, reason=IDLE)
    assert (stopped.kept_awake, stopped.end_reason) == (None, IDLE)


def test_an_order_to_terminate_keeps_the_reason_of_the_drain_before_it(store: Store) -> None:
    with_instance(store)
    store.request_drain("i1", IDLE, at(1))
    store.request_terminate("i1", LATE, at(2))
    store.request_terminate("i1", DEMAND, at(3))
    instance = store.instance("i1")
    assert instance
    assert (instance.terminate_requested_at, instance.end_reason) == (at(2), IDLE)


def test_a_drain_can_be_taken_back_while_the_machine_still_pulls(store: Store) -> None:
    with_enrolled(store)
    store.cancel_drain("i1", DEMAND, at(63))
    store.request_drain("i1", IDLE, at(61))
    store.cancel_drain("i1", DEMAND, at(63))
    instance = store.instance("i1")
    assert instance
    assert (instance.drain_requested_at, instance.end_reason) == (None, None)


def test_a_machine_whose_drain_was_taken_back_after_it_stopped_pulling_pulls_again(store: Store) -> None:
    with_enrolled(store)
    store.request_drain("i1", IDLE, at(61))
    beat(store, when=at(62), is_pulling=False, reason=IDLE)
    store.cancel_drain("i1", DEMAND, at(63))
    ordered = beat(store, when=at(64), is_pulling=False, reason=IDLE)
    assert (ordered.drain_requested_at, ordered.stopped_pulling_at) == (None, at(62)), "it has not heard of it yet"
    resumed = beat(store, when=at(65), is_pulling=True)
    assert (resumed.stopped_pulling_at, resumed.end_reason) == (None, None)
    assert resumed.is_taking_tasks


def test_a_machine_that_pulls_and_has_not_heard_yet_of_its_drain_keeps_the_order(store: Store) -> None:
    with_enrolled(store)
    beat(store, when=at(61), is_pulling=False, reason=LATE)
    store.request_drain("i1", IDLE, at(62))
    heard = beat(store, when=at(63), is_pulling=True)
    assert (heard.drain_requested_at, heard.stopped_pulling_at, heard.end_reason) == (at(62), None, LATE)


def test_what_the_cloud_takes_back_is_preempted_whatever_else_was_to_end_it(store: Store) -> None:
    with_enrolled(store)
    store.request_drain("i1", IDLE, at(61))
    beat(store, when=at(62), is_pulling=False, reason=IDLE)
    preempted = Reason(code="preempted", text="the cloud takes it back")
    assert beat(store, when=at(63), is_pulling=False, reason=preempted).end_reason == preempted
    assert beat(store, when=at(64), is_pulling=False, is_ending=True, reason=IDLE).end_reason == preempted


@pytest.mark.parametrize("then", ["goodbye", "terminate"])
def test_a_machine_that_ends_does_not_pull_again(store: Store, then: str) -> None:
    with_enrolled(store)
    beat(store, when=at(61), is_pulling=False, is_ending=then == "goodbye", reason=IDLE)
    if then == "terminate":
        store.request_terminate("i1", LATE, at(62))
    after = beat(store, when=at(63), is_pulling=True)
    assert (after.stopped_pulling_at, after.end_reason) == (at(61), IDLE)


@pytest.mark.parametrize("then", ["goodbye", "terminate", "gone"])
def test_a_drain_cannot_be_taken_back_once_more_has_happened(store: Store, then: str) -> None:
    with_enrolled(store)
    store.request_drain("i1", IDLE, at(61))
    if then == "goodbye":
        beat(store, when=at(62), is_pulling=False, is_ending=True)
    elif then == "terminate":
        store.request_terminate("i1", LATE, at(62))
    else:
        store.note_gone("i1", LATE, at(62))
    store.cancel_drain("i1", DEMAND, at(63))
    instance = store.instance("i1")
    assert instance
    assert (instance.drain_requested_at, instance.end_reason) == (at(61), IDLE)


def test_a_closed_ledger_is_never_reopened(store: Store) -> None:
    with_enrolled(store)
    store.note_gone("i1", LATE, at(70))
    closed = store.instance("i1")
    assert closed
    assert (closed.state, closed.gone_at, closed.end_reason) == (InstanceState.GONE, at(70), LATE)
    store.note_gone("i1", IDLE, at(80))
    store.note_launched("i1", "cloud-1", at(80))
    store.request_drain("i1", IDLE, at(80))
    store.request_terminate("i1", IDLE, at(80))
    answer = beat(store, when=at(80), is_ending=True, runs=[a_run()])
    assert store.instance("i1") == answer == closed
    assert store.runs() == ()


def test_an_unknown_instance_is_refused_by_name(store: Store) -> None:
    for verb in (
        lambda: store.note_launched("nobody", "x", T0),
        lambda: store.request_drain("nobody", IDLE, T0),
        lambda: store.cancel_drain("nobody", IDLE, T0),
        lambda: store.request_terminate("nobody", IDLE, T0),
        lambda: store.note_gone("nobody", IDLE, T0),
        lambda: store.close_run(a_run(instance="nobody")),
        lambda: store.expect("nobody", "join", at(1)),
        lambda: beat(store, "nobody"),
    ):
        with pytest.raises(StoreError, match="'nobody'"):
            verb()


# --- enrolment


def test_a_machine_enrols_with_its_join_token(store: Store) -> None:
    with_instance(store)
    store.note_launched("i1", "cloud-1", at(1))
    store.expect("i1", "join", at(900))
    enrolled = store.enroll("i1", "join", "token", "host", [GPU0], at(60))
    assert enrolled == store.instance("i1") == holder(store, "token")
    assert enrolled
    assert (enrolled.state, enrolled.enrolled_at, enrolled.hostname) == (InstanceState.READY, at(60), "host")
    assert enrolled.gpus == (GPU0,)


def test_an_enrolment_is_refused_with_a_wrong_late_or_foreign_token(store: Store) -> None:
    with_instance(store)
    with_instance(store, "i2")
    store.expect("i1", "join", at(900))
    assert store.enroll("i1", "guess", "token", "host", [], at(1)) is None
    assert store.enroll("i2", "join", "token", "host", [], at(1)) is None
    assert store.enroll("nobody", "join", "token", "host", [], at(1)) is None
    assert store.enroll("i1", "join", "token", "host", [], at(900)) is None
    assert store.who("token") is None
    assert store.enroll("i1", "join", "token", "host", [], at(899)) is not None


def test_a_join_token_works_again_until_the_first_heartbeat(store: Store) -> None:
    with_enrolled(store)
    again = store.enroll("i1", "join-i1", "token-2", "host", [GPU0], at(61))
    assert again
    assert again.enrolled_at == at(60)
    assert store.who("token-i1") is None, "the answer that was lost is worth nothing"
    assert holder(store, "token-2") == again
    beat(store, when=at(62))
    assert store.enroll("i1", "join-i1", "token-3", "host", [GPU0], at(63)) is None
    assert store.who("token-3") is None


def test_a_second_join_token_of_an_instance_is_dead_once_the_first_was_used(store: Store) -> None:
    """A dispatcher that died between writing down a token and launching makes another; either may reach the machine."""
    with_instance(store)
    store.expect("i1", "join-a", at(900))
    store.expect("i1", "join-b", at(900))
    assert store.enroll("i1", "join-b", "token-b", "host", [], at(1))
    assert store.enroll("i1", "join-a", "token-a", "host", [], at(2)) is None


def test_a_join_token_belongs_to_the_first_instance_it_was_made_for(store: Store) -> None:
    with_instance(store)
    with_instance(store, "i2")
    store.expect("i1", "join", at(900))
    store.expect("i2", "join", at(900))
    assert store.enroll("i2", "join", "token", "host", [], at(1)) is None


def test_an_instance_that_is_ending_cannot_enrol(store: Store) -> None:
    for name in ("i1", "i2", "i3"):
        with_instance(store, name)
        store.expect(name, f"join-{name}", at(900))
    store.request_terminate("i1", LATE, at(1))
    store.note_gone("i2", LATE, at(1))
    store.request_drain("i3", IDLE, at(1))
    assert store.enroll("i1", "join-i1", "token-1", "host", [], at(2)) is None
    assert store.enroll("i2", "join-i2", "token-2", "host", [], at(2)) is None
    assert store.enroll("i3", "join-i3", "token-3", "host", [], at(2)), "a draining one hears so with its first order"


def test_a_supervisors_token_dies_with_its_instance(store: Store) -> None:
    with_enrolled(store)
    store.request_terminate("i1", LATE, at(70))
    assert store.who("token-i1") is not None, "it must still hear the order"
    store.note_gone("i1", LATE, at(80))
    assert store.who("token-i1") is None


def test_of_two_who_enrol_with_one_token_at_once_one_is_known_after(store: Store) -> None:
    for turn in range(5):
        name = f"i{turn}"
        with_instance(store, name)
        store.expect(name, f"join{turn}", at(900))
        tokens = [f"token{turn}{letter}" for letter in "ab"]
        all_at_once(*[partial(store.enroll, name, f"join{turn}", token, "host", [], at(1)) for token in tokens])
        assert sum(store.who(token) is not None for token in tokens) == 1


def test_of_two_who_enrol_with_different_tokens_at_once_one_is_let_in(store: Store) -> None:
    for turn in range(5):
        name = f"i{turn}"
        with_instance(store, name)
        for letter in "ab":
            store.expect(name, f"join{turn}{letter}", at(900))
        enrol = [partial(store.enroll, name, f"join{turn}{x}", f"token{turn}{x}", "host", [], at(1)) for x in "ab"]
        assert sorted(answer is None for answer in all_at_once(*enrol)) == [False, True]


# --- heartbeats


def test_a_heartbeat_replaces_the_facts_of_its_machine(store: Store) -> None:
    with_enrolled(store)
    half = replace(ALLOCATION, share=0.5)
    assert beat(store, when=at(61), allocations=[half], gpus=[GPU0]).allocations == (half,)
    busy = beat(store, when=at(62), allocations=[ALLOCATION], gpus=[GPU0])
    assert busy == store.instance("i1")
    assert (busy.state, busy.allocations, busy.heartbeat_at) == (InstanceState.BUSY, (ALLOCATION,), at(62))
    idle = beat(store, when=at(64), idle_since=at(63), gpus=[replace(GPU0, util=0.0)])
    assert (idle.state, idle.idle_since, idle.allocations) == (InstanceState.READY, at(63), ())
    assert idle.gpus == (replace(GPU0, util=0.0),)


def test_a_heartbeat_tells_how_its_machine_does_and_what_it_has_still_to_tell_the_server(store: Store) -> None:
    with_enrolled(store)
    vitals = Vitals(
        cpu_percent=12.5,
        memory_used_gib=3.0,
        memory_free_gib=5.0,
        disk_free_percent=40.0,
        disk_read_mib_per_s=0.0,
        disk_write_mib_per_s=1.5,
        network_rx_mib_per_s=2.0,
        network_tx_mib_per_s=0.25,
    )
    said = beat(store, when=at(61), vitals=vitals, unsettled=["t1"])
    assert (said.vitals, said.unsettled) == (vitals, ("t1",))
    assert store.instance("i1") == said
    later = beat(store, when=at(62))
    assert (later.vitals, later.unsettled) == (None, ())


def test_a_heartbeat_answers_with_the_orders_that_stand(store: Store) -> None:
    with_enrolled(store)
    store.request_drain("i1", IDLE, at(61))
    store.request_terminate("i1", LATE, at(62))
    answer = beat(store, when=at(63))
    assert (answer.drain_requested_at, answer.terminate_requested_at, answer.end_reason) == (at(61), at(62), IDLE)


def test_a_heartbeat_that_arrives_late_does_not_turn_back_the_clock(store: Store) -> None:
    with_enrolled(store)
    beat(store, when=at(70))
    assert beat(store, when=at(65)).heartbeat_at == at(70)


def test_a_heartbeat_that_was_overtaken_says_nothing_of_how_its_machine_is_now(store: Store) -> None:
    """Its machine had given up on the answer and come again: another thread was faster, and the older facts came back."""
    with_enrolled(store)
    now = beat(store, when=at(70), is_pulling=False, reason=IDLE, runs=[a_run("t2", started_at=at(69))])
    ended = a_run("t1", ended_at=at(64), result=RunResult.COMPLETED)
    late = beat(store, when=at(65), allocations=[ALLOCATION], gpus=[GPU0], runs=[ended, a_run("t2")])
    assert late == now == store.instance("i1")
    assert store.runs("t1") == (ended,), "an end is never too late"
    assert store.runs("t2") == (a_run("t2", started_at=at(69)),)


def test_a_heartbeat_after_the_clock_was_set_back_is_no_late_one(store: Store) -> None:
    with_enrolled(store)
    beat(store, when=at(7200))
    assert beat(store, when=at(100), allocations=[ALLOCATION]).allocations == (ALLOCATION,)


def test_the_first_time_that_a_machine_stops_pulling_or_ends_stays(store: Store) -> None:
    with_enrolled(store)
    beat(store, when=at(70), reason=LATE)
    beat(store, when=at(71), is_pulling=False, reason=IDLE)
    beat(store, when=at(72), is_pulling=False, is_ending=True, reason=LATE)
    last = beat(store, when=at(73), is_pulling=False, is_ending=True, reason=LATE)
    assert (last.stopped_pulling_at, last.goodbye_at, last.end_reason) == (at(71), at(72), IDLE)
    assert last.state is InstanceState.TERMINATING


def test_an_order_and_a_heartbeat_at_once_lose_nothing_of_each_other(store: Store) -> None:
    with_enrolled(store)
    all_at_once(
        lambda: [beat(store, when=at(70 + n), gpus=[GPU0]) for n in range(20)],
        lambda: store.request_drain("i1", IDLE, at(75)),
        lambda: [store.note_launched("i1", "cloud-1", at(76)) for _ in range(20)],
    )
    instance = store.instance("i1")
    assert instance
    assert (instance.heartbeat_at, instance.drain_requested_at, instance.cloud_id) == (at(89), at(75), "cloud-1")


# --- attempts


def test_an_attempt_is_kept_from_claim_to_end(store: Store) -> None:
    with_enrolled(store)
    claimed = a_run(name="resnet", enqueued_at=at(-9))
    done = replace(claimed, started_at=at(1), ended_at=at(9), result=RunResult.FAILED, exit_code=1)
    beat(store, when=at(62), runs=[claimed])
    assert store.runs() == (claimed,)
    beat(store, when=at(63), runs=[done])
    beat(store, when=at(64), runs=[done])
    assert store.runs() == (done,)


def test_the_first_end_of_an_attempt_stays(store: Store) -> None:
    with_enrolled(store)
    lost = a_run(ended_at=at(9), result=RunResult.REQUEUED)
    store.close_run(lost)
    beat(store, when=at(63), runs=[a_run()])
    beat(store, when=at(64), runs=[a_run(ended_at=at(10), result=RunResult.COMPLETED)])
    store.close_run(a_run(ended_at=at(11), result=RunResult.STOPPED))
    assert store.runs() == (lost,)


def test_attempts_are_found_by_task_by_instance_and_by_when_they_ended(store: Store) -> None:
    with_enrolled(store)
    with_enrolled(store, "i2")
    lost = a_run("t1", "i1", ended_at=at(5), result=RunResult.REQUEUED)
    again = a_run("t1", "i2", claimed_at=at(6))
    other = a_run("t2", "i2", claimed_at=at(1), ended_at=at(20), result=RunResult.COMPLETED)
    beat(store, "i1", when=at(70), runs=[lost])
    beat(store, "i2", when=at(70), runs=[again, other])
    assert store.runs() == (lost, other, again)
    assert store.runs(task="t1") == (lost, again)
    assert store.runs(instance="i2") == (other, again)
    assert store.runs(task="t1", instance="i2") == (again,)
    assert store.runs(ended_after=at(6)) == (other, again)
    assert store.runs(ended_after=at(5)) == (lost, other, again)
    assert store.runs(task="t1", ended_after=at(6)) == (again,)
    assert store.runs(task="nobody") == ()


# --- events and the view


def test_events_are_numbered_in_the_order_they_came(store: Store) -> None:
    store.append_events([])
    store.append_events([an_event("a"), an_event("b", instance="i1")])
    store.append_events([an_event("c", task="t1", queue="train"), an_event("d", instance="i1")])
    found = store.events()
    assert [(e.seq, e.kind) for e in found] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert found[2] == replace(an_event("c", task="t1", queue="train"), seq=3)


def test_events_are_read_in_pieces_of_at_most_the_limit(store: Store) -> None:
    store.append_events([an_event(str(n), instance="i1" if n % 2 else "i2", task=f"t{n % 3}") for n in range(1, 11)])
    assert [e.seq for e in store.events(limit=3)] == [8, 9, 10], "the newest"
    assert [e.seq for e in store.events(after=2, limit=3)] == [3, 4, 5], "what follows"
    assert [e.seq for e in store.events(after=10)] == []
    assert [e.seq for e in store.events(limit=0)] == []
    assert [e.seq for e in store.events(limit=2, instance="i1")] == [7, 9]
    assert [e.seq for e in store.events(after=1, limit=2, instance="i1")] == [3, 5]
    assert [e.seq for e in store.events(task="t0")] == [3, 6, 9]
    assert [e.seq for e in store.events(kind="7")] == [7]


def test_old_events_can_be_forgotten_and_their_numbers_are_not_given_again(store: Store) -> None:
    store.append_events([an_event(when=at(n)) for n in range(5)])
    assert store.forget_events(at(3)) == 3
    assert [e.seq for e in store.events()] == [4, 5]
    assert store.forget_events(at(99)) == 2
    store.append_events([an_event()])
    assert [e.seq for e in store.events()] == [6]


def test_runs_that_ended_long_ago_can_be_forgotten_and_those_that_run_are_not(store: Store) -> None:
    store.record_intents([an_instance("i1"), an_instance("i2")])
    ended = [a_run(f"t{n}", f"i{1 + n % 2}", claimed_at=at(n), ended_at=at(n + 1)) for n in range(4)]
    for run in (*ended, a_run("old", "i1", claimed_at=at(0))):
        store.close_run(run)
    assert store.forget_runs(at(3)) == 2
    assert [r.task for r in store.runs()] == ["old", "t2", "t3"]
    assert [r.task for r in store.runs(instance="i1")] == ["old", "t2"]
    assert [r.task for r in store.runs(ended_after=at(0))] == ["old", "t2", "t3"]
    assert store.runs(task="t0") == ()
    assert store.tasks_like("t", 9) == ("t2", "t3")
    assert store.forget_runs(at(3)) == 0


def test_join_tokens_that_expired_long_ago_are_forgotten_with_the_runs_and_others_still_let_in(store: Store) -> None:
    store.record_intents([an_instance("i1"), an_instance("i2")])
    store.expect("i1", "early", at(10))
    store.expect("i2", "late", at(1000))
    store.forget_runs(at(500))
    store.expect("i1", "early", at(2000))  # as if it had never been expected
    assert store.enroll("i1", "early", "token-1", "host", (), at(600)) is not None
    assert store.enroll("i2", "late", "token-2", "host", (), at(600)) is not None


def test_events_of_many_writers_become_visible_in_their_order(store: Store) -> None:
    seen: list[int] = []

    def follow() -> None:
        while len(seen) < 80:
            seen.extend(e.seq for e in store.events(after=seen[-1] if seen else 1))

    def write() -> None:
        for _ in range(10):
            store.append_events([an_event(), an_event()])

    store.append_events([an_event()])
    all_at_once(follow, write, write, write, write)
    assert seen == list(range(2, 82))


def test_the_last_view_replaces_the_one_before(store: Store) -> None:
    assert store.view() is None
    store.remember_view(a_view())
    store.remember_view(a_view(at(2)))
    assert store.view() == a_view(at(2))


def test_whose_turn_it_is_replaces_what_was_said_before(store: Store) -> None:
    assert store.turns() == Turns()
    hold = Hold(task="t1", instance="i1", since=T0, is_first=True)
    turns = Turns(fairness=Fairness.SHARES, uses=(Use(queue="train", user="me", gpus=1.5),), holds=(hold,))
    store.remember_turns(turns)
    assert store.turns() == turns
    store.remember_turns(replace(turns, holds=()))
    assert store.turns().holds == ()


# --- money


def test_money_is_counted_by_the_second_between_the_two_times(store: Store) -> None:
    an_hour = 3600
    store.record_intents([an_instance("i1"), an_instance("i2"), an_instance("unknown", usd=None)])
    store.note_launched("i1", "cloud-1", at(100))
    store.note_gone("i1", IDLE, at(100 + an_hour))
    assert store.usd_since("c", T0, at(100)) == pytest.approx(0.1), "i2 counts from its intent"
    assert store.usd_since("c", T0, at(100 + an_hour)) == pytest.approx(3.6 + 3.7)
    assert store.usd_since("c", at(100 + an_hour), at(100 + 2 * an_hour)) == pytest.approx(3.6), "i1 is gone"
    assert store.usd_since("c", at(1900), at(100 + 2 * an_hour)) == pytest.approx(1.8 + 5.4), "half of i1"
    assert store.usd_since("other", T0, at(100 + an_hour)) == 0.0
    assert store.usd_since("c", at(10), at(5)) == 0.0


def test_money_adds_up_while_instances_come_and_go(store: Store) -> None:
    """The same midnight is asked for again and again: what is carried on must stay what a fresh count gives."""
    for n in range(20):
        store.record_intents([an_instance(f"i{n}", requested_at=at(10 * n))])
        if n % 3 == 0:
            store.note_gone(f"i{n}", IDLE, at(10 * n + 5))
        if n == 10:
            store.note_gone("i1", IDLE, at(15))  # noted late
        now = at(10 * n + 10)
        whole = sum((i.usd(now) or 0) - (i.usd(at(30)) or 0) for i in store.instances("c", gone_after=T0))
        assert store.usd_since("c", at(30), now) == pytest.approx(max(whole, 0.0))


def test_what_is_gone_is_paid_by_the_queue_and_the_user_that_it_was_launched_for(store: Store) -> None:
    ann, bob = (Reason(code="demand", text="a task waits", queue="train", user=user) for user in ("ann", "bob"))
    for name, reason, start in (("a", ann, 0), ("b", bob, 0), ("c", ann, 3600), ("d", DEMAND, 0), ("lives", bob, 0)):
        store.record_intents([replace(an_instance(name, requested_at=at(start)), reason=reason)])
    for name, gone in (("a", 1800), ("b", 3600), ("c", 7200), ("d", 360)):
        store.note_gone(name, IDLE, at(gone))
    price = an_instance().offer.price_usd_per_hour or 0.0

    def spent(since: datetime) -> dict[tuple[str | None, str | None], float]:
        return {(s.queue, s.user): round(s.usd / price, 6) for s in store.spent_by_gone("c", since)}

    whole = {("train", "ann"): 1.5, ("train", "bob"): 1.0, (DEMAND.queue, None): 0.1}
    assert spent(T0) == spent(T0) == whole
    assert spent(at(900)) == {("train", "ann"): 1.25, ("train", "bob"): 0.75}
    assert store.spent_by_gone("other", T0) == ()
    store.note_gone("lives", IDLE, at(3600))  # noted late
    assert spent(T0) == whole | {("train", "bob"): 2.0}


def test_budgets_count_from_the_intent_on_and_a_minute_from_the_confirmation_at_least(store: Store) -> None:
    """A launch may be confirmed late; clouds bill a minute for what ends at once, and nothing for what never began."""
    for name, usd in (
        ("late", 3600.0),
        ("failed", 3600.0),
        ("unknown", None),
        ("odd", -3600.0),
        ("odder", float("nan")),
    ):
        store.record_intents([an_instance(name, usd=usd)])
    store.note_launched("late", "cloud-1", at(10))
    for name in ("late", "unknown", "odd", "odder"):
        store.note_gone(name, IDLE, at(12))
    store.note_gone("failed", IDLE, at(1))
    (spent,) = store.spent_by_gone("c", T0)
    assert spent.usd == pytest.approx(70 + 1)
    (spent,) = store.spent_by_gone("c", at(50))
    assert spent.usd == pytest.approx(20), "also beyond midnight"


# --- who listens


def test_a_listener_hears_what_changed_after_it_was_written(make_store: Callable[..., Store]) -> None:
    heard: list[tuple[str, object]] = []
    store: Store = make_store(on_change=lambda kind: heard.append((kind, store.instance("i1") is not None)))
    with_enrolled(store)
    beat(store, when=at(61), runs=[a_run()])
    store.request_drain("i1", IDLE, at(62))
    store.request_drain("i1", IDLE, at(63))
    ended = a_run(ended_at=at(64), result=RunResult.COMPLETED)
    beat(store, when=at(64), is_pulling=False, runs=[ended])
    beat(store, when=at(65), is_pulling=False, is_ending=True, runs=[ended])
    store.close_run(ended)
    store.close_run(a_run("t2", ended_at=at(66), result=RunResult.REQUEUED))
    assert [kind for kind, _ in heard] == [
        *("enrolled", "beat", "orders"),
        *("beat", "goodbye", "runs_ended"),
        *("beat", "goodbye"),
        "runs_ended",
    ]
    assert all(is_written for _, is_written in heard)


def test_tasks_are_found_by_the_beginning_of_their_id(store: Store) -> None:
    store.record_intents([an_instance("i1")])
    runs = tuple(a_run(task) for task in ("ab1", "ab2", "b%c", "bxc"))
    beat(store, runs=runs)
    assert store.tasks_like("ab", 10) == ("ab1", "ab2")
    assert store.tasks_like("ab", 1) == ("ab1",)
    assert store.tasks_like("b%", 10) == ("b%c",), "a prefix is no pattern"
    assert store.tasks_like("AB", 10) == (), "capitals are other letters"
    assert store.tasks_like("z", 10) == ()
