"""How calls end when servers and networks misbehave: a value, or one of three errors in one line; and never a wait without end."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import ServerError, ServerRefused, ServerUnauthorised, ServerUnreachable
from fleet.model import ServerAccess
from fleet.queues.client import ClearMLServer
from fleet.queues.transport import Transport
from tests.queues.fake_clearml import FakeClearML, Fault, broken, busy, cut_after, cut_before, data, hang, raw_answer
from tests.queues.queues_contract import TRAIN, ApiPeople

NOWHERE = ServerAccess(api_url="", files_url="", web_url="", access_key="key", secret_key="secret")


@pytest.fixture
def fake() -> Iterator[FakeClearML]:
    fake = FakeClearML()
    yield fake
    fake.close()


@pytest.fixture
def client(fake: FakeClearML) -> Iterator[ClearMLServer]:
    client = ClearMLServer(fake.access, patience_s=2)
    client.ensure_queues(["train"])
    yield client
    client.close()


def a_task(client: ClearMLServer) -> str:
    people = ApiPeople(client)
    task = people.draft("one")
    people.enqueue(task, "train")
    return task


PASSING = {
    "503": busy(),
    "503 with a date": busy("Wed, 21 Oct 2015 07:28:00 GMT"),
    "503 with nonsense": busy("soon"),
    "500": broken,
    "502 of a proxy": raw_answer(b"<html>Bad Gateway", 502, Content_Type="text/html"),
    "reset": cut_before,
    "cut in the middle": cut_after,
    "half a JSON": raw_answer(b'{"meta": {"result_code": 200}, "da'),
    "no envelope": raw_answer(b"[]"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_passing_trouble_is_outlived(fake: FakeClearML, client: ClearMLServer, fault: Fault) -> None:
    task = a_task(client)
    fake.faults["queues.get_all"].extend([fault, fault])
    assert [t.id for t in client.waiting([TRAIN])] == [task]


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_passing_trouble_at_the_login_is_outlived(fake: FakeClearML, fault: Fault) -> None:
    fake.faults["auth.login"].extend([fault] if fault is not cut_after else [])
    client = ClearMLServer(fake.access, patience_s=2)
    assert client.waiting([TRAIN]) == ()
    client.close()


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_lasting_trouble_is_one_line(fake: FakeClearML, fault: Fault) -> None:
    client = ClearMLServer(fake.access, patience_s=0.2)
    fake.faults["queues.get_all"].extend([fault] * 30)
    with pytest.raises(ServerUnreachable) as refused:
        client.waiting([TRAIN])
    assert str(refused.value).startswith(f"{fake.url} queues.get_all: ")
    assert "\n" not in str(refused.value)
    client.close()


def test_a_server_that_asks_for_patience_gets_it(fake: FakeClearML, client: ClearMLServer) -> None:
    fake.faults["tasks.get_all"].append(busy("1"))
    start = time.monotonic()
    client.states(["x"])
    assert 1 <= time.monotonic() - start < 15


def test_more_patience_than_we_have_is_given_up_at_once(fake: FakeClearML, client: ClearMLServer) -> None:
    fake.faults["tasks.get_all"].append(busy("30"))
    start = time.monotonic()
    with pytest.raises(ServerUnreachable, match=r"Server is starting \(503\); try again later"):
        client.states(["x"])
    assert time.monotonic() - start < 15


def test_no_server_is_unreachable_and_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        access = replace(NOWHERE, api_url=url)
        with pytest.raises(ServerUnreachable) as refused:
            ClearMLServer(access, patience_s=0.1).waiting([TRAIN])
    assert str(refused.value) == f"{url} auth.login: no connection (Connection refused); is the server running?"


def test_a_server_that_hangs_is_unreachable_in_time(fake: FakeClearML) -> None:
    transport = Transport(fake.access, patience_s=0.1)
    fake.faults["tasks.get_all"].append(hang)
    start = time.monotonic()
    with pytest.raises(ServerUnreachable, match="no whole answer"):
        transport.call("tasks.get_all", {}, read_timeout_s=0.3)
    assert time.monotonic() - start < 15
    transport.close()


def test_closing_ends_a_wait_at_once(fake: FakeClearML) -> None:
    closing = threading.Event()
    client = ClearMLServer(fake.access, closing=closing, patience_s=60)
    client.ensure_queues(["train"])
    fake.faults["queues.get_all"].extend([busy("20")] * 9)
    threading.Timer(0.2, closing.set).start()
    start = time.monotonic()
    with pytest.raises(ServerUnreachable):
        client.waiting([TRAIN])
    assert time.monotonic() - start < 15
    client.close()


def test_after_closing_a_call_is_still_tried_once(fake: FakeClearML) -> None:
    closing = threading.Event()
    client = ClearMLServer(fake.access, closing=closing)
    client.ensure_queues(["train"])
    task = a_task(client)
    closing.set()
    client.stopped(task, "its machine ends")
    assert fake.tasks[task]["status"] == "stopped"
    fake.faults["tasks.ping"].extend([broken, broken])
    with pytest.raises(ServerUnreachable):
        client.ping(task)
    assert len(fake.asked("tasks.ping")) == 1
    client.close()


# --- ways there


def test_a_proxy_of_the_environment_is_used(fake: FakeClearML, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", fake.url)
    client = ClearMLServer(replace(fake.access, api_url="http://clearml.invalid:8008"))
    assert list(client.ensure_queues(["train"])) == ["train"]
    client.close()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    client = ClearMLServer(fake.access)
    assert list(client.ensure_queues(["train"])) == ["train"]
    client.close()


def test_a_certificate_is_checked_against_the_authorities_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: no certificate to test with")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    made = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=x",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run(["openssl", *made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    fake = FakeClearML(tls=tls)
    with pytest.raises(ServerRefused) as refused:
        ClearMLServer(fake.access).waiting([TRAIN])
    assert str(refused.value) == (
        f"{fake.url} auth.login: its certificate is not trusted (self-signed certificate); "
        "name its authority's file in REQUESTS_CA_BUNDLE"
    )
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    client = ClearMLServer(fake.access)
    assert list(client.ensure_queues(["train"])) == ["train"]
    client.close()
    fake.close()


# --- letting in


def test_one_login_serves_many_calls_and_threads(fake: FakeClearML) -> None:
    client = ClearMLServer(fake.access)
    threads = [threading.Thread(target=client.states, args=(["x"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.states(["x"])
    assert len(fake.asked("auth.login")) == 1
    client.close()


def test_a_forgotten_token_is_replaced_once(fake: FakeClearML, client: ClearMLServer) -> None:
    fake.tokens.clear()
    assert client.states(["x"]) == {}
    assert len(fake.asked("auth.login")) == 2


def test_a_server_that_never_lets_in_is_asked_twice(fake: FakeClearML, client: ClearMLServer) -> None:
    refuse = raw_answer(b'{"meta": {"result_code": 401, "result_msg": "Invalid token"}, "data": {}}', 401)
    fake.faults["tasks.get_all"].extend([refuse] * 5)
    with pytest.raises(ServerUnauthorised, match="Invalid token; check access_key and secret_key"):
        client.states(["x"])
    assert len(fake.asked("tasks.get_all")) == 2


def test_wrong_keys_are_said_to_be_wrong_and_not_shown(fake: FakeClearML) -> None:
    client = ClearMLServer(replace(fake.access, secret_key="hunter2"))
    with pytest.raises(ServerUnauthorised) as refused:
        client.waiting([TRAIN])
    assert str(refused.value) == f"{fake.url} auth.login: Invalid credentials; check access_key and secret_key"
    client.close()


def test_a_token_is_renewed_before_it_expires() -> None:
    fake = FakeClearML(token_life_s=10)
    transport = Transport(fake.access)
    transport.call("tasks.get_all", {})
    assert transport._token is not None
    assert transport._token.due_at is not None
    assert 8 < transport._token.due_at - time.monotonic() < 9.1
    transport._token = replace(transport._token, due_at=time.monotonic())
    transport.call("tasks.get_all", {})
    assert len(fake.asked("auth.login")) == 2
    transport.close()
    fake.close()


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "..", "e30.e30.x", "e30.eyJleHAiOiJ4In0.x", "e30.W10.x"])
def test_a_token_without_dates_is_used_until_it_is_refused(fake: FakeClearML, token: str) -> None:
    fake.faults["auth.login"].append(data({"token": token}))
    fake.tokens.add(token)
    client = ClearMLServer(fake.access)
    assert client.states(["x"]) == {}
    client.close()


@pytest.mark.parametrize("value", [{}, {"token": None}, {"token": 5}, {"token": "\u00fc\u1234"}, {"token": "a\nb"}, []])
def test_a_login_without_a_token_that_can_be_sent_is_one_line(fake: FakeClearML, value: Any) -> None:
    fake.faults["auth.login"].extend([data(value)] * 9)
    client = ClearMLServer(fake.access, patience_s=0.1)
    with pytest.raises(ServerUnreachable) as refused:
        client.states(["x"])
    assert "\n" not in str(refused.value)
    client.close()


# --- answers that are not what they should be


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        {"queues": "x"},
        {"queues": {}},
        {"queues": [1]},
        {"queues": [{"id": 5}]},
        {"queues": [{"id": "same", "entries": "x"}]},
        {"queues": [{"id": "same", "entries": [{"task": 5}]}]},
        {"queues": [{"id": "same", "entries": [{"added": "2026-01-01"}]}]},
        {"queues": [{"id": "same", "entries": [{"task": "t", "added": "yesterday"}]}]},
        {"queues": [{"id": "same", "entries": [{"task": "t", "added": 5}]}]},
        {"queues": [{"id": "same", "entries": [{"task": "t"}]}]},
    ],
)
def test_queues_of_wrong_types_are_one_line(fake: FakeClearML, client: ClearMLServer, value: Any) -> None:
    (id_,) = client.ensure_queues(["train"]).values()
    fake.tasks["t"] = {"id": "t", "name": "one", "status": "queued"}
    if isinstance(value, dict) and isinstance(value["queues"], list) and value["queues"] != [1]:
        value = {"queues": [{**q, "id": id_ if q["id"] == "same" else q["id"]} for q in value["queues"]]}
    fake.faults["queues.get_all"].append(data(value))
    with pytest.raises(ServerUnreachable) as refused:
        client.waiting([TRAIN])
    assert "queues.get_all" in str(refused.value)
    assert "\n" not in str(refused.value)


WRONG_TASKS: list[dict[str, Any]] = [
    {"id": None},
    {"name": 5},
    {"tags": "gpus:2"},
    {"tags": [1]},
    {"project": 5},
]


@pytest.mark.parametrize("wrong", WRONG_TASKS)
def test_task_details_of_wrong_types_are_one_line(
    fake: FakeClearML, client: ClearMLServer, wrong: dict[str, Any]
) -> None:
    task = a_task(client)
    fake.faults["tasks.get_all"].append(data({"tasks": [{"id": task, "name": "one"} | wrong]}))
    with pytest.raises(ServerUnreachable, match=r"tasks.get_all: tasks\[0\].* should be .*; the answer is of no use"):
        client.waiting([TRAIN])


@pytest.mark.parametrize(
    ("odd", "gpus"),
    [
        ([], 1),
        ({"properties": 5}, 1),
        ({"properties": {"gpus": ["2"]}}, 1),
        ({"properties": {"gpus": {"value": {}}}}, 1),
        ({"properties": {"gpus": "2"}}, 2),
        ({"properties": {"gpus": 2}}, 2),
    ],
)
def test_odd_properties_of_one_task_do_not_hide_the_tasks_of_others(
    fake: FakeClearML, client: ClearMLServer, odd: Any, gpus: int
) -> None:
    odd_one, other = a_task(client), a_task(client)
    fake.tasks[odd_one]["hyperparams"] = odd
    waiting = {task.id: task.need.at_least for task in client.waiting([TRAIN])}
    assert waiting == {odd_one: gpus, other: 1}


@pytest.mark.parametrize(
    "wrong", [{"status": 5}, {"status_message": []}, {"last_update": "x"}, {"execution": []}, {"runtime": "x"}]
)
def test_task_states_of_wrong_types_are_one_line(
    fake: FakeClearML, client: ClearMLServer, wrong: dict[str, Any]
) -> None:
    fake.faults["tasks.get_all"].append(data({"tasks": [{"id": "t"} | wrong]}))
    with pytest.raises(ServerUnreachable, match=r"tasks.get_all: tasks\[0\]: .* should be"):
        client.states(["t"])


def test_what_may_be_null_or_missing_may_be(fake: FakeClearML, client: ClearMLServer) -> None:
    nulls = dict.fromkeys(["name", "status", "status_message", "execution", "last_worker", "last_update", "runtime"])
    fake.faults["tasks.get_all"].append(data({"tasks": [{"id": "a", **nulls}, {"id": "b", "status": "brand new"}]}))
    states = client.states(["a", "b"])
    assert [(s.status, s.status_message, s.queue_id) for s in states.values()] == [("unknown", "", None)] * 2


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ({}, (0, False)),
        ({"_abort_callback_timeout": "30.0", "_abort_callback_completed": ""}, (30, False)),
        ({"_abort_callback_timeout": 45, "_abort_callback_completed": "1"}, (45, True)),
        ({"_abort_callback_timeout": "soon", "_abort_callback_completed": "0"}, (0, False)),
        ({"_abort_callback_timeout": "inf"}, (0, False)),
        ({"_abort_callback_timeout": [1]}, (0, False)),
    ],
)
def test_the_abort_callback_is_read_as_the_sdk_writes_it(
    fake: FakeClearML, client: ClearMLServer, runtime: dict[str, Any], expected: tuple[float, bool]
) -> None:
    task = a_task(client)
    fake.tasks[task]["runtime"] = runtime
    state = client.states([task])[task]
    assert (state.abort_callback_timeout_s, state.is_abort_callback_done) == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (raw_answer(b"<html>", Content_Type="text/html"), "not as a ClearML API server; give the API's address"),
        (
            raw_answer(b"", 302, Location="https://login.lab"),
            "redirected to https://login.lab; give the API server's own",
        ),
        (raw_answer(b"Not Found", 404, Content_Type="text/plain"), "answered 404 as text/plain, not as a ClearML API"),
    ],
)
def test_another_kind_of_server_is_refused_with_advice(fake: FakeClearML, fault: Fault, expected: str) -> None:
    fake.faults["auth.login"].append(fault)
    with pytest.raises(ServerRefused) as refused:
        ClearMLServer(fake.access).waiting([TRAIN])
    assert expected in str(refused.value)


@pytest.mark.parametrize("url", ["lab:8008", "ftp://lab", "http://", "http://[::1", "http://a:b", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ServerError):
        ClearMLServer(replace(NOWHERE, api_url=url), patience_s=0.1).waiting([TRAIN])


def test_a_refusal_carries_the_servers_numbers(fake: FakeClearML, client: ClearMLServer) -> None:
    with pytest.raises(ServerRefused) as refused:
        client.ping("none")
    assert (refused.value.code, refused.value.subcode) == (400, 101)
    assert str(refused.value) == f"{fake.url} tasks.ping: Invalid task id: ids=(none)"


# --- what must not be done twice


def test_a_claim_whose_answer_was_lost_is_not_repeated_and_found_again(
    fake: FakeClearML, client: ClearMLServer
) -> None:
    id_ = a_task(client)
    (task,) = client.waiting([TRAIN])
    fake.faults["queues.get_next_task"].append(cut_after)
    with pytest.raises(ServerUnreachable):
        client.claim(task)
    assert len(fake.asked("queues.get_next_task")) == 1
    assert [state.id for state in client.lost([TRAIN])] == [id_]
    client.put_back(id_, "train", "its claim was lost")
    assert client.claim(task)


@pytest.mark.parametrize("fault", [busy(), cut_before, broken])
def test_a_claim_is_repeated_only_if_the_server_surely_did_nothing(
    fake: FakeClearML, client: ClearMLServer, fault: Fault
) -> None:
    a_task(client)
    (task,) = client.waiting([TRAIN])
    fake.faults["queues.get_next_task"].append(fault)
    if fault in (cut_before, broken):
        with pytest.raises(ServerUnreachable):
            client.claim(task)
    else:
        assert client.claim(task)


def test_an_older_server_pops_another_task_which_goes_back_to_the_head(
    fake: FakeClearML, client: ClearMLServer
) -> None:
    fake.knows_expected_head = False
    first, second = a_task(client), a_task(client)
    wanted = replace(client.waiting([TRAIN])[1], position=0)
    assert client.claim(wanted)
    assert [task.id for task in client.waiting([TRAIN])] == [first]
    assert client.claim(client.waiting([TRAIN])[0])
    assert len(fake.asked("queues.get_next_task")) == 1
    assert [body["task"] for body in fake.asked("queues.remove_task")] == [second, first]


def test_a_half_done_return_is_finished_by_whoever_repeats_it(fake: FakeClearML, client: ClearMLServer) -> None:
    task = a_task(client)
    assert client.claim(client.waiting([TRAIN])[0])
    client.started(task, "w", "claimed")
    fake.faults["tasks.enqueue"].extend([broken] * 40)
    with pytest.raises(ServerUnreachable):
        client.put_back(task, "train", "its machine was lost")
    assert fake.tasks[task]["status"] == "stopped"
    fake.faults["tasks.enqueue"].clear()
    client.put_back(task, "train", "its machine was lost")
    assert [t.id for t in client.waiting([TRAIN])] == [task]
    assert client.states([task])[task].status == "queued"


def test_a_return_whose_enqueueing_was_answered_into_the_void_is_done(fake: FakeClearML, client: ClearMLServer) -> None:
    task = a_task(client)
    assert client.claim(client.waiting([TRAIN])[0])
    client.started(task, "w", "claimed")
    fake.faults["tasks.enqueue"].append(cut_after)
    client.put_back(task, "train", "its machine was lost")
    assert [t.id for t in client.waiting([TRAIN])] == [task]


def test_a_running_task_is_left_alone_if_there_is_no_queue_to_put_it_in(
    fake: FakeClearML, client: ClearMLServer
) -> None:
    task = a_task(client)
    assert client.claim(client.waiting([TRAIN])[0])
    client.started(task, "w", "claimed")
    with pytest.raises(ServerRefused, match="no queue is called 'gone'; there are train"):
        client.put_back(task, "gone", "its machine was lost")
    assert fake.tasks[task]["status"] == "in_progress"


def test_a_queue_that_was_deleted_and_made_again_is_found_under_its_new_id(
    fake: FakeClearML, client: ClearMLServer
) -> None:
    first = a_task(client)
    (task,) = client.waiting([TRAIN])
    (old,) = fake.queues
    entries = fake.queues.pop(old)["entries"]
    assert client.waiting([TRAIN]) == ()
    (new,) = ClearMLServer(fake.access).ensure_queues(["train"]).values()
    fake.queues[new]["entries"] = entries
    assert [t.id for t in client.waiting([TRAIN])] == [first]
    fake.queues["newer"] = {**fake.queues.pop(new), "id": "newer"}
    assert client.claim(task)


def test_a_paused_queue_holds_nothing_for_us_and_loses_nothing(fake: FakeClearML, client: ClearMLServer) -> None:
    task = a_task(client)
    (queue,) = fake.queues.values()
    queue["tags"] = ["force_workers:off"]
    assert client.waiting([TRAIN]) == ()
    assert client.lost([TRAIN]) == ()
    queue["tags"] = ["force_workers:on"]
    assert [t.id for t in client.waiting([TRAIN])] == [task]


# --- few calls


def test_a_poll_is_one_call_once_the_tasks_are_known(fake: FakeClearML, client: ClearMLServer) -> None:
    a_task(client)
    client.waiting([TRAIN])
    fake.calls.clear()
    client.waiting([TRAIN])
    assert [name for name, _ in fake.calls] == ["queues.get_all"]
    a_task(client)
    fake.calls.clear()
    client.waiting([TRAIN])
    assert [(name, len(body["id"])) for name, body in fake.calls] == [("queues.get_all", 1), ("tasks.get_all", 1)]


def test_a_supervisor_asks_for_the_first_entries_alone(fake: FakeClearML, client: ClearMLServer) -> None:
    first, second, _third = a_task(client), a_task(client), a_task(client)
    supervisor = ClearMLServer(fake.access, first_entries=2)
    assert [task.id for task in supervisor.waiting([TRAIN])] == [first, second]
    assert fake.asked("queues.get_all")[-1]["max_task_entries"] == 2
    supervisor.close()


def test_many_tasks_are_asked_for_in_chunks(fake: FakeClearML, client: ClearMLServer) -> None:
    ids = [f"{i:032x}" for i in range(1200)]
    (queue,) = client.ensure_queues(["train"]).values()
    for id_ in ids:
        fake.tasks[id_] = {"id": id_, "name": "t", "status": "queued", "execution": {"queue": queue}}
    fake.queues[queue]["entries"] = [{"task": id_, "added": "2026-11-22T02:10:20.499000+00:00"} for id_ in ids[:700]]
    assert [task.id for task in client.waiting([TRAIN])] == ids[:700]
    assert [len(body["id"]) for body in fake.asked("tasks.get_all")] == [250, 250, 200]
    assert [state.id for state in client.lost([TRAIN])] == ids[700:]


def test_the_wish_that_a_task_saves_itself_is_not_repeated(fake: FakeClearML, client: ClearMLServer) -> None:
    """Its answer was lost and it was obeyed: by the time of a second one another machine may run the task, and would lose it."""
    task = a_task(client)
    fake.faults["tasks.stop"].append(cut_after)
    with pytest.raises(ServerUnreachable):
        client.ask_to_save(task, "preempted")
    assert len(fake.asked("tasks.stop")) == 1
