"""Paths, bodies, envelopes, logins: what both clients rely on before any endpoint."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from fleet.errors import StoreError
from fleet.server import credentials
from tests.server.embedded import Client, basic


def token_of(client: Client, query: str = "") -> str:
    return str(client.send("GET", "/auth.login", query=query).data["token"])


def claims(token: str) -> dict[str, object]:
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize(
    "path", ["/queues.get_all", "/v2.5/queues.get_all", "/v2.23/queues.get_all/", "/v99/queues.get_all"]
)
def test_a_body_is_read_whatever_the_method_and_the_version(client: Client, method: str, path: str) -> None:
    queue = client.queue("train")
    client.queue("other")
    answer = client.send(
        method, path, b'{"name": "train", "only_fields": ["id"]}', {"content-type": "application/json"}
    )
    assert answer.data == {"queues": [{"id": queue}]}


def test_a_connection_of_the_sdk_is_closed_and_one_of_an_agent_kept(client: Client) -> None:
    kept = {
        name: client.send("GET", "/queues.get_all", headers={name: "1"})
        for name in ("X-ClearML-Client", "X-ClearML-Agent")
    }
    assert [answer.headers.get("connection") for answer in kept.values()] == ["close", None]


def test_the_query_string_fills_in_what_the_body_lacks(client: Client) -> None:
    client.queue("train")
    answer = client.send("GET", "/queues.get_all", b'{"only_fields": ["name"]}', query="name=tra&only_fields=id")
    assert answer.data == {"queues": [{"name": "train"}]}


def test_unknown_fields_and_nulls_are_ignored(client: Client) -> None:
    task = client.task()
    answer = client.ask("tasks.edit", task=task, method="get", comment="c", name=None, tags=None, nonsense={"a": 1})
    assert answer.code == 200
    assert client.held(task)["comment"] == "c"


def test_success_and_error_have_the_same_envelope(client: Client) -> None:
    good, bad = client.ask("debug.ping").json, client.ask("tasks.get_by_id", task="nobody").json
    assert set(good) == set(bad) == {"meta", "data"}
    assert set(good["meta"]) == set(bad["meta"])
    assert good["meta"]["endpoint"]["name"] == "debug.ping"
    assert isinstance(good["meta"]["endpoint"]["requested_version"], str)
    assert (bad["meta"]["result_code"], bad["meta"]["result_subcode"], bad["data"]) == (400, 101, {})


def test_an_unknown_endpoint_is_404_in_the_envelope_and_logged_once(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answers = [client.ask("serving.register_container"), client.ask("serving.register_container")]
    assert [a.codes for a in answers] == [(404, 0)] * 2
    assert [getattr(r, "endpoint", "") for r in caplog.records] == ["serving.register_container"]


def test_a_token_says_what_the_clients_look_for(client: Client) -> None:
    found = claims(token_of(client))
    assert found["api_version"] == "2.34"
    assert found["feature_set"] == "basic"
    assert float(str(found["exp"])) - float(str(found["iat"])) == timedelta(days=30).total_seconds()


def test_no_token_lives_less_than_a_day_because_agents_would_log_in_before_every_call(client: Client) -> None:
    found = claims(token_of(client, "expiration_sec=60"))
    assert float(str(found["exp"])) - float(str(found["iat"])) == timedelta(days=1).total_seconds()


def test_a_token_survives_a_restart_and_gives_a_new_one(open_client: Callable[[], Client]) -> None:
    token = token_of(open_client())
    again = open_client()
    again.authorization = f"Bearer {token}"
    again.authorization = f"Bearer {token_of(again)}"
    assert again.call("users.get_current_user")["user"]["name"] == "ada"


def test_who_has_no_or_wrong_or_outdated_credentials_gets_401(client: Client) -> None:
    good = client.authorization
    client.clock.at = datetime.now(UTC) - timedelta(days=31)
    outdated = token_of(client)
    forged = jwt.encode({"exp": 2**40, "key": "x"}, "not the server's key, but as long as one", algorithm="HS256")
    cases = {
        "": 20,
        basic(("NOBODY", "nothing")): 22,
        "Basic !!!": 22,
        good[:-6] + "AAAAA=": 22,
        f"Bearer {forged}": 30,
        f"Bearer {outdated}": 30,
        "Bearer x.y.z": 30,
    }
    seen = {}
    for header in cases:
        client.authorization = header
        seen[header] = client.ask("queues.get_all").codes
    assert seen == {header: (401, subcode) for header, subcode in cases.items()}


def test_a_revoked_key_and_its_tokens_end(client: Client) -> None:
    pair = credentials.create(client.server.database, "bob", "laptop")
    client.authorization = basic(pair)
    client.authorization = f"Bearer {token_of(client)}"
    assert credentials.revoke(client.server.database, pair[0])
    assert client.ask("queues.get_all").codes == (401, 30)
    assert [c.user for c in credentials.all(client.server.database)] == ["ada"]
    assert not credentials.revoke(client.server.database, pair[0])


def test_passing_trouble_is_503_with_retry_after_and_late_for_a_post(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down() -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(client.server.database, "write", down)
    got: dict[str, float] = {}
    for method in ("GET", "POST"):
        began = datetime.now(UTC)
        answer = client.send(method, "/tasks.ping", b'{"task": "x"}')
        got[method] = (datetime.now(UTC) - began).total_seconds()
        assert (answer.codes, answer.headers["retry-after"]) == ((503, 0), "2")
    delay = client.server.settings.unavailable_delay.total_seconds()
    assert got["GET"] < delay <= got["POST"]


def test_a_server_that_shuts_down_says_come_again(client: Client) -> None:
    client.server.close()
    assert client.send("GET", "/debug.ping").codes == (503, 0)


def test_bodies_that_cannot_be_read_are_refused_in_the_envelope(client: Client) -> None:
    assert client.send("POST", "/queues.get_all", b"{not json").codes == (400, 800)
    assert client.send("POST", "/queues.get_all", b"[1]").codes == (400, 800)
    assert client.send("POST", "/queues.get_all", b"{}", {"content-encoding": "gzip"}).codes == (415, 0)
    assert client.ask("tasks.get_by_id").codes == (400, 800)
    assert client.ask("tasks.get_all", name="(").codes == (400, 800)
    assert client.ask("tasks.get_all", id=["x"] * 10_001).codes == (400, 800)
    assert client.ask("events.get_task_log", task="x", from_timestamp=10**30).code == 200


def test_numbers_beyond_all_measure_are_answered(client: Client) -> None:
    task, huge = client.task(), 10**15
    client.call("workers.register", worker="w", timeout=huge)
    assert [w["id"] for w in client.call("workers.get_all", last_seen=huge)["workers"]] == ["w"]
    assert client.call("tasks.get_all", page=huge, page_size=huge)["tasks"] == []
    assert len(client.call("tasks.get_all", page_size=-1)["tasks"]) == 1
    for scroll in ("9" * 30, "9" * 5000):
        assert client.ask("events.get_task_events", task=task, scroll_id=scroll).code == 200
    assert client.ask("events.get_task_plots", task=task, metrics=[{"metric": "m", "variants": 5}]).codes == (400, 800)
    assert client.ask("events.debug_images", metrics=[{"task": task, "variants": 5}]).codes == (400, 800)
    assert client.ask("tasks.get_all", _any_={"fields": 5, "pattern": "x"}).code == 200
    assert client.send("POST", "/tasks.get_all", b'{"id":' + b"[" * 5000 + b"]" * 5000 + b"}").codes == (400, 800)
    scalar = {"type": "training_stats_scalar", "task": task, "metric": "m", "variant": "v", "iter": 0, "timestamp": 6}
    assert client.report({**scalar, "value": 10**400, "more": 10**40, "else": float("nan")}).data["added"] == 1


def test_a_field_of_a_wrong_kind_is_refused_before_it_makes_a_task_unreadable(client: Client) -> None:
    task = client.task()
    for field in ({"tags": {"a": 1}}, {"script": "x"}, {"hyperparams": []}, {"runtime": "x"}, {"comment": 3}):
        assert client.ask("tasks.edit", task=task, **field).codes == (400, 800)
    assert client.ask("tasks.edit", task=task, name="zz").codes == (400, 800)


@pytest.mark.parametrize(
    "field",
    [
        {"hyperparams": {"properties": "x"}},
        {"hyperparams": {"properties": {"gpus": "2"}}},
        {"configuration": {"General": "x"}},
        {"execution": {"artifacts": "x"}},
        {"execution": {"artifacts": ["x"]}},
        {"models": {"input": "x"}},
    ],
)
def test_a_field_is_of_the_right_kind_as_deep_as_others_read_it(client: Client, field: dict[str, Any]) -> None:
    task = client.task()
    assert client.ask("tasks.edit", task=task, **field).codes == (400, 800)
    assert client.ask("tasks.create", name="task", type="training", **field).codes == (400, 800)
    ((name, value),) = field.items()
    overrides = {"execution_overrides": value} if name == "execution" else {f"new_task_{name}": value}
    assert name == "models" or client.ask("tasks.clone", task=task, **overrides).codes == (400, 800)


def test_nan_and_half_characters_that_python_writes_are_read(client: Client) -> None:
    task = client.task()
    body = json.dumps({"type": "log", "task": task, "msg": "half \ud83d end", "timestamp": 5}).encode()
    assert client.send("POST", "/events.add_batch", body).data["added"] == 1
    scalar = {"type": "training_stats_scalar", "task": task, "metric": "m", "variant": "v", "iter": 0, "timestamp": 6}
    assert client.report({**scalar, "value": float("nan")}).data["added"] == 1
    assert client.console(task) == ["half \ufffd end"]
