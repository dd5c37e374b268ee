"""The edge API: what a supervisor sends, and what it is answered."""

import hashlib
import threading
import time
from datetime import datetime, timedelta
from typing import Any

import requests

from fleet.assemble.proofs import Proofs
from fleet.errors import IdentityError, StoreError
from fleet.identity.ec2 import Ec2
from fleet.model import Instance, InstanceState, Notice, Reason, RunResult, Standing, Vitals
from fleet.store.memory import MemoryStore
from fleet.wire import Enrolled, Orders, Proof, from_data
from tests.waiting import PATIENCE
from tests.web.nouns import (
    ALLOCATION,
    GPUS,
    IDLE,
    POLICY,
    TRAIN,
    Web,
    a_heartbeat,
    a_run,
    an_enrolment,
    an_instance,
    at,
    serving,
    settings,
)


def expect(web: Web, instance: str = "i1", join_token: str = "join") -> None:
    """The dispatcher is about to launch it."""
    web.store.record_intents([an_instance(instance)])
    web.store.expect(instance, hashlib.sha256(join_token.encode()).hexdigest(), at(900))


def enrolled(web: Web) -> Enrolled:
    expect(web)
    answer = from_data(Enrolled, web.post("/edge/v1/enroll", an_enrolment()).json())
    web.token = answer.token
    return answer


def beat(web: Web, **facts: Any) -> Orders:
    response = web.post("/edge/v1/heartbeat", a_heartbeat(**facts))
    assert response.status_code == 200, response.text
    return from_data(Orders, response.json())


def refusal(response: requests.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert "\n" not in error
    return response.status_code, error


def test_a_machine_that_enrols_is_told_all_that_it_needs(web: Web) -> None:
    answer = enrolled(web)
    assert (answer.instance, answer.cluster, answer.resource) == ("i1", "c", "gpu")
    assert (answer.server, answer.queues, answer.agent) == (POLICY.server, (TRAIN,), POLICY.agent)
    assert (answer.idle_timeout, answer.max_lifetime) == (POLICY.idle_timeout, None)
    assert (answer.heartbeat_interval, answer.contact_timeout) == (POLICY.heartbeat_interval, POLICY.contact_timeout)
    instance = web.store.instance("i1")
    assert instance
    assert (instance.hostname, instance.gpus, instance.enrolled_at) == ("host", GPUS, at(0))


def test_a_machine_with_a_wrong_or_used_token_is_refused(web: Web) -> None:
    expect(web)
    assert refusal(web.post("/edge/v1/enroll", an_enrolment(join_token="guess")))[0] == 403
    assert refusal(web.post("/edge/v1/enroll", an_enrolment(instance="i2")))[0] == 403
    assert web.post("/edge/v1/enroll", an_enrolment()).status_code == 200
    again = web.post("/edge/v1/enroll", an_enrolment())
    assert again.status_code == 200, "its first answer may be lost"
    web.token = again.json()["token"]
    beat(web)
    code, error = refusal(web.post("/edge/v1/enroll", an_enrolment()))
    assert (code, "'i1' may not enrol" in error) == (403, True)


def test_the_store_never_sees_a_token_itself() -> None:
    seen: list[str] = []

    class Watched(MemoryStore):
        def enroll(self, *arguments: Any) -> Instance | None:
            seen.extend(arguments[1:3])
            return super().enroll(*arguments)

    with serving(Web(store=Watched())) as web:
        answer = enrolled(web)
    assert seen == [hashlib.sha256(token.encode()).hexdigest() for token in ("join", answer.token)]


def test_a_heartbeat_is_kept_and_answered_with_orders(web: Web) -> None:
    enrolled(web)
    web.now = at(5)
    web.hints.bump()
    orders = beat(web, allocations=(ALLOCATION,), runs=(a_run(),))
    assert (orders.drain, orders.end, orders.queues, orders.runs_seen, orders.hint) == (None, None, (TRAIN,), (), 1)
    instance = web.store.instance("i1")
    assert instance
    assert (instance.heartbeat_at, instance.allocations) == (at(5), (ALLOCATION,)), "by our clock"
    assert web.store.runs() == (a_run(),)


def test_a_heartbeat_tells_how_the_machine_does_and_what_it_has_still_to_settle(web: Web) -> None:
    enrolled(web)
    readings = ("cpu_percent", "memory_used_gib", "memory_free_gib", "disk_free_percent")
    rates = (f"{what}_mib_per_s" for what in ("disk_read", "disk_write", "network_rx", "network_tx"))
    vitals = Vitals(**{name: float(n) for n, name in enumerate((*readings, *rates))})
    over = a_run("t3", ended_at=at(4), result=RunResult.COMPLETED, exit_code=0)
    beat(web, allocations=(ALLOCATION,), runs=(a_run(), a_run("t2"), over), vitals=vitals)
    instance = web.store.instance("i1")
    assert instance
    assert (instance.vitals, instance.unsettled) == (vitals, ("t2",))


def test_orders_are_repeated_with_each_heartbeat(web: Web) -> None:
    enrolled(web)
    web.store.request_drain("i1", IDLE, at(1))
    assert [beat(web).drain, beat(web).drain] == [IDLE, IDLE]
    assert beat(web).end is None
    web.store.request_terminate("i1", Reason(code="operator", text="now"), at(2))
    assert beat(web).end == IDLE, "the first reason stays"


def test_what_is_left_of_a_drain_is_told_as_a_duration(web: Web) -> None:
    enrolled(web)
    web.store.request_drain("i1", IDLE, at(1))
    assert beat(web).drain_within is None
    web.store.request_drain("i1", IDLE, at(1), by=at(600))
    assert beat(web).drain_within == timedelta(seconds=600)
    web.now = at(700)
    assert beat(web).drain_within == timedelta(0)


def test_a_run_that_ended_is_acknowledged_once_it_is_in_the_ledger(web: Web) -> None:
    enrolled(web)
    ended = a_run("t1", ended_at=at(4), result=RunResult.COMPLETED, exit_code=0)
    assert beat(web, runs=(ended, a_run("t2"))).runs_seen == ("t1",)
    assert beat(web, runs=(ended, a_run("t2"))).runs_seen == ("t1",), "the answer may be lost"
    assert web.store.runs(task="t1") == (ended,)


def test_goodbye_is_written_with_its_reason(web: Web) -> None:
    enrolled(web)
    beat(web, is_pulling=False, is_ending=True, reason=IDLE)
    instance = web.store.instance("i1")
    assert instance
    assert (instance.goodbye_at, instance.stopped_pulling_at, instance.end_reason) == (at(0), at(0), IDLE)


def test_a_call_without_a_living_token_is_unauthorised(web: Web) -> None:
    assert refusal(web.post("/edge/v1/heartbeat", a_heartbeat()))[0] == 401
    assert refusal(web.get("/edge/v1/hint"))[0] == 401
    enrolled(web)
    beat(web)
    web.store.note_gone("i1", IDLE, at(9))
    assert refusal(web.post("/edge/v1/heartbeat", a_heartbeat()))[0] == 401
    assert refusal(web.get("/edge/v1/hint"))[0] == 401


def test_a_machine_cannot_speak_for_another(web: Web) -> None:
    enrolled(web)
    expect(web, "i2")
    assert refusal(web.post("/edge/v1/heartbeat", a_heartbeat("i2")))[0] == 403
    assert refusal(web.post("/edge/v1/heartbeat", a_heartbeat(runs=(a_run("t1", "i2"),))))[0] == 403
    assert web.store.runs() == ()


def test_a_message_that_cannot_be_read_is_refused_in_one_line(web: Web) -> None:
    enrolled(web)
    code, error = refusal(web.post("/edge/v1/heartbeat", a_heartbeat() | {"allocations": [{"task": 1}]}))
    assert (code, error) == (400, "Heartbeat.allocations[0].task: expected str, got int")
    for absurd in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-01T12:00:00", "noon"):
        assert refusal(web.post("/edge/v1/heartbeat", a_heartbeat() | {"idle_since": absurd}))[0] == 400
    code, error = refusal(requests.post(web.url + "/edge/v1/enroll", data=b"{", timeout=9 * PATIENCE))
    assert (code, error.startswith("the body is not JSON")) == (400, True)
    assert refusal(web.post("/edge/v1/enroll", {}))[0] == 400
    assert refusal(web.get("/edge/v1/hint?after=x"))[0] == 400
    assert refusal(web.get("/edge/v1/nothing"))[0] == 404
    assert refusal(web.get("/edge/v1/enroll"))[0] == 405


def test_a_body_without_end_is_not_read_to_its_end(web: Web) -> None:
    endless = (b" " * 65536 for _ in range(1000))
    response = requests.post(web.url + "/edge/v1/enroll", data=endless, timeout=20 * PATIENCE)
    assert refusal(response)[0] == 413


def test_a_store_that_does_not_answer_is_a_passing_fault() -> None:
    class Down(MemoryStore):
        def who(self, token_hash: str) -> Instance | None:
            raise StoreError("the store does not answer: disk full")

    with serving(Web(store=Down(), token="x")) as web:
        response = web.post("/edge/v1/heartbeat", a_heartbeat())
        assert refusal(response) == (503, "the store does not answer: disk full")
        assert response.headers["Retry-After"] == "2"


# --- hints


def test_a_listener_is_answered_when_there_is_news(web: Web) -> None:
    enrolled(web)
    answers: list[tuple[int, float]] = []

    def listen() -> None:
        seq = web.get("/edge/v1/hint?after=0&wait_s=20").json()["seq"]
        answers.append((seq, time.monotonic()))

    listeners = [threading.Thread(target=listen) for _ in range(20)]
    for listener in listeners:
        listener.start()
    bumped = time.monotonic()
    web.hints.bump()
    for listener in listeners:
        listener.join()
    assert {seq for seq, _ in answers} == {1}
    assert max(answered for _, answered in answers) - bumped < 15  # and not the 20 s that they would wait


def test_a_listener_is_answered_at_once_if_it_missed_one_or_the_centre_restarted(web: Web) -> None:
    enrolled(web)
    web.hints.bump()
    started = time.monotonic()
    assert web.get("/edge/v1/hint?after=0&wait_s=20").json() == {"seq": 1}
    assert web.get("/edge/v1/hint?after=57&wait_s=20").json() == {"seq": 1}
    assert time.monotonic() - started < 15


def test_a_listener_without_news_is_answered_after_its_time(web: Web) -> None:
    enrolled(web)
    started = time.monotonic()
    assert web.get("/edge/v1/hint?after=0&wait_s=0.3").json() == {"seq": 0}
    assert 0.3 <= time.monotonic() - started < 15


def test_listeners_do_not_keep_a_server_from_stopping(web: Web) -> None:
    enrolled(web)
    listener = threading.Thread(target=web.get, args=("/edge/v1/hint?after=0&wait_s=20",))
    listener.start()
    started = time.monotonic()
    web.hints.close()
    listener.join()
    assert time.monotonic() - started < 15


def test_the_levels_of_a_machine_come_with_its_enrolment_and_with_every_answer(web: Web) -> None:
    expect(web)
    web.store.stand([("i1", Standing(above_gpus=(("train", 1.0),), smaller=(("train", (1, 2)),)))])
    answer = from_data(Enrolled, web.post("/edge/v1/enroll", an_enrolment()).json())
    web.token = answer.token
    assert (answer.above_gpus, answer.smaller) == ({"train": 1.0}, {"train": (1, 2)})
    assert (beat(web).above_gpus, beat(web).smaller) == ({"train": 1.0}, {"train": (1, 2)})
    web.store.stand([("i1", Standing(above_gpus=(("train", 4.0),)))])
    assert beat(web).above_gpus == {"train": 4.0}
    web.store.stand([("i1", Standing())])
    assert beat(web).above_gpus == {}


def test_people_are_told_of_a_notice_once_however_often_the_machine_says_it(web: Web) -> None:
    enrolled(web)
    notice = Notice(kind="preemption", at=at(1), deadline=at(121), text="the cloud takes it back at 12:02")
    preempted = Reason(code="preempted", text=notice.text)
    for _ in range(3):
        beat(web, notice=notice, is_pulling=False, reason=preempted)
    said = [(e.instance, e.text, e.reason) for e in web.store.events() if e.kind == "instance.notice"]
    assert said == [("i1", "preemption: the cloud takes it back at 12:02", preempted)]
    instance = web.store.instance("i1")
    assert instance
    assert (instance.state, instance.end_reason) == (InstanceState.DRAINING, preempted)


def test_a_machine_that_knows_no_notices_is_understood(web: Web) -> None:
    enrolled(web)
    older = {key: value for key, value in a_heartbeat().items() if key != "notice"}
    assert web.post("/edge/v1/heartbeat", older).status_code == 200


# --- who a machine is


def test_a_machine_that_cannot_prove_who_it_is_is_refused_and_its_token_is_not_used_up() -> None:
    def prove(instance: Instance, proof: Proof | None, _at: datetime) -> None:
        if proof is None or proof.text != instance.id:
            raise IdentityError("its cloud says that it is another")

    with serving(Web(settings=settings(prove=prove))) as web:
        expect(web)
        assert refusal(web.post("/edge/v1/enroll", an_enrolment())) == (
            403,
            "instance 'i1' may not enrol: its cloud says that it is another",
        )
        for said in ({"kind": "ec2", "text": "i2"}, {"kind": "ec2", "text": ""}):
            assert refusal(web.post("/edge/v1/enroll", an_enrolment() | {"proof": said}))[0] == 403
        assert web.post("/edge/v1/enroll", an_enrolment() | {"proof": {"kind": "ec2", "text": "i1"}}).status_code == 200


def test_a_machine_that_is_faster_than_its_cloud_s_answer_is_asked_to_come_again() -> None:
    proofs = Proofs({"gpu": Ec2(signers=(), account=None)})
    with serving(Web(settings=settings(prove=proofs))) as web:
        expect(web)
        proven = an_enrolment() | {"proof": {"kind": "ec2", "text": ""}}
        answer = web.post("/edge/v1/enroll", proven)
        assert refusal(answer) == (503, "its cloud has not said yet what it is called; come again")
        assert answer.headers["Retry-After"] == "3"
        web.store.note_launched("i1", "i-1", at(1))
        assert refusal(web.post("/edge/v1/enroll", proven))[0] == 403


def test_the_certificate_is_shown_to_all_and_where_there_is_none_that_is_said(web: Web) -> None:
    assert refusal(web.get("/edge/v1/certificate"))[0] == 404
    with serving(Web(settings=settings(authority="-----BEGIN CERTIFICATE-----"))) as ours:
        assert ours.get("/edge/v1/certificate").text == "-----BEGIN CERTIFICATE-----"


def test_a_machine_that_rebooted_is_let_in_by_the_token_that_it_has_and_stays_who_it_was(web: Web) -> None:
    answer = enrolled(web)
    beat(web)
    again = from_data(Enrolled, web.post("/edge/v1/enroll", an_enrolment(join_token=answer.token)).json())
    assert again == answer
    beat(web)
    code, error = refusal(web.post("/edge/v1/enroll", an_enrolment(instance="i2", join_token=answer.token)))
    assert (code, "is of instance 'i1'" in error) == (403, True)


def test_a_machine_that_is_gone_is_not_let_in_again(web: Web) -> None:
    answer = enrolled(web)
    web.store.note_gone("i1", Reason(code="vanished", text="x"), at(9))
    assert refusal(web.post("/edge/v1/enroll", an_enrolment(join_token=answer.token)))[0] == 403
