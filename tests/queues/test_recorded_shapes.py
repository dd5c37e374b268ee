"""What we send and read, held to what a real server was sent and answered (recorded calls of the stock SDK and agent)."""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import ServerRefused
from fleet.queues.base import LogLine
from fleet.queues.client import ClearMLServer
from tests.queues.fake_clearml import FakeClearML, raw_answer
from tests.queues.queues_contract import SCRIPT, TRAIN, ApiPeople

TRACES = sorted((Path(__file__).parents[3] / "shared" / "data" / "clearml_traces").glob("*.jsonl"))
pytestmark = pytest.mark.skipif(not TRACES, reason="shared/data/clearml_traces is not beside this checkout")

# Fields that the stock clients did not happen to send in the recordings, but which their own schemas know.
ONLY_IN_THE_SCHEMAS = {
    "queues.get_next_task": {"task"},
    "queues.get_all": {"max_task_entries"},
    "queues.add_task": {"queue", "task"},
    "workers.register": {"timeout", "tags"},
    "tasks.create": {"script", "tags"},
    "tasks.enqueue": {"status_reason"},
    "tasks.started": {"status_reason"},
    "projects.get_all": {"id"},
    "events.get_task_log": {"from_timestamp"},
}


def recorded() -> Iterator[dict[str, Any]]:
    for file in TRACES:
        for line in file.read_text().splitlines():
            call = json.loads(line)
            if call["kind"] == "api":
                yield {**call, "endpoint": call["path"].split("?")[0].rsplit("/", 1)[-1]}


def kinds(value: Any) -> set[str]:
    if isinstance(value, list):
        return {"list"} | {f"list of {type(item).__name__}" for item in value}
    return {type(value).__name__}


def bodies(request: Any) -> list[dict[str, Any]]:
    """The JSON objects of a request; a batch of events has many."""
    if isinstance(request, dict) and "<jsonlines>" in request:
        return [line for line in request["<jsonlines>"] if isinstance(line, dict)]
    return [request] if isinstance(request, dict) else [line for line in request or [] if isinstance(line, dict)]


def all_that_we_send(fake: FakeClearML) -> None:
    """Every verb of the client once."""
    client = ClearMLServer(fake.access, first_entries=5)
    centre = ClearMLServer(fake.access)
    people = ApiPeople(client)
    client.ensure_queues(["train"])
    ids = [people.draft(name) for name in ("one", "two", "three", "four")]
    fake.projects["p"] = "mine"
    for id_ in ids:
        fake.tasks[id_]["project"] = "p"
        people.enqueue(id_, "train")
    fake.calls.clear()
    client.waiting([TRAIN])
    one, two, three, _ = centre.waiting([TRAIN])
    for task in (one, three):
        assert client.claim(task)
    for task in (one, two):
        client.started(task.id, "w:gpu0", "claimed")
    assert client.claim(replace(two, position=1))
    client.register("w:gpu0", ["train"], 90, ["fleet"])
    stats = {"cpu_usage": [1.5], "memory_used": 884.2, "disk_free_home": 72.9}
    client.report("w:gpu0", one.id, ["train"], stats, datetime.now(UTC))
    client.report("w:gpu0", None, ["train"], {}, datetime.now(UTC))
    client.ping(one.id)
    client.states([one.id])
    client.send_log(one.id, "w:gpu0", [LogLine(at=datetime.now(UTC), text="x")])
    client.log(one.id, client.log(one.id)[1])
    assert [state.id for state in centre.lost([TRAIN])] == [three.id]
    for task in (two, three):
        centre.put_back(task.id, "train", "its machine was lost")
    client.completed(one.id, "exit 0")
    client.failed(two.id, "exit 1")
    client.stopped(three.id, "by its user")
    client.unregister("w:gpu0")
    client.ensure_queues(["another"])
    client.submit(name="my run", project="other", queue="train", script=SCRIPT, tags=["a"])
    client.close()
    centre.close()


@pytest.fixture
def fake() -> Iterator[FakeClearML]:
    fake = FakeClearML()
    yield fake
    fake.close()


def test_every_field_that_we_send_was_sent_by_the_stock_clients_with_the_same_type(fake: FakeClearML) -> None:
    known: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for call in recorded():
        for body in bodies(call["req"]):
            for field, value in body.items():
                known[call["endpoint"]][field] |= kinds(value)
    all_that_we_send(fake)
    strange = {
        f"{endpoint}: {field} as {kind}"
        for endpoint, request in fake.calls
        for body in bodies(request)
        for field, value in body.items()
        if field not in ONLY_IN_THE_SCHEMAS.get(endpoint, ())
        for kind in kinds(value) - known[endpoint][field]
    }
    assert strange == set()
    assert len({endpoint for endpoint, _ in fake.calls}) >= 20


def test_what_was_not_recorded_is_in_the_sdks_own_schemas() -> None:
    pytest.importorskip("clearml")
    for endpoint, fields in ONLY_IN_THE_SCHEMAS.items():
        service, action = endpoint.split(".")
        module = importlib.import_module(f"clearml.backend_api.services.v2_23.{service}")
        request = getattr(module, "".join(part.title() for part in action.split("_")) + "Request")
        assert fields <= set(request._schema["properties"]), endpoint


READERS: dict[str, Callable[[ClearMLServer], object]] = {
    "auth.login": lambda client: client.states(["x"]),
    "queues.get_all": lambda client: client.waiting([TRAIN]),
    "queues.create": lambda client: client.ensure_queues(["new one"]),
    "tasks.get_all": lambda client: client.states(["x"]),
    "tasks.started": lambda client: client.started("x", "w", "y"),
    "tasks.completed": lambda client: client.completed("x", "y"),
    "tasks.failed": lambda client: client.failed("x", "y"),
    "tasks.stopped": lambda client: client.stopped("x", "y"),
    "tasks.ping": lambda client: client.ping("x"),
    "events.get_task_log": lambda client: client.log("x"),
    "workers.register": lambda client: client.register("w", ["train"], 60),
    "workers.status_report": lambda client: client.report("w", None, ["train"], {}, datetime.now(UTC)),
    "workers.unregister": lambda client: client.unregister("w"),
}


def outcome(read: Callable[[ClearMLServer], object], client: ClearMLServer) -> tuple[int, int]:
    """The envelope's code and subcode as our reading shows them."""
    try:
        read(client)
    except ServerRefused as error:
        return error.code, error.subcode
    return 200, 0


NEEDED = {"queues.get_all": {"id", "entries"}, "tasks.get_all": {"id"}}


@pytest.mark.parametrize("endpoint", READERS)
def test_every_recorded_answer_is_understood(fake: FakeClearML, endpoint: str) -> None:
    client = ClearMLServer(fake.access, patience_s=0)
    client.ensure_queues(["train"])
    client.ensure_queues(["new one"]) if endpoint != "queues.create" else None
    count = 0
    for call in recorded():
        only = (call["req"] or {}).get("only_fields")
        if call["endpoint"] != endpoint or (only is not None and not NEEDED.get(endpoint, set()) <= set(only)):
            continue
        count += 1
        if endpoint == "auth.login":
            client = ClearMLServer(fake.access, patience_s=0)
            fake.tokens.add(call["resp"]["data"]["token"])
        fake.faults[endpoint].append(raw_answer(json.dumps(call["resp"]).encode(), call["status"]))
        assert outcome(READERS[endpoint], client) == (call["status"], call["resp"]["meta"]["result_subcode"])
        fake.faults[endpoint].clear()
        if endpoint == "queues.create":
            fake.queues.clear()
    assert count > 0


def test_every_recorded_task_tells_its_wishes_and_its_state(fake: FakeClearML) -> None:
    client = ClearMLServer(fake.access)
    client.ensure_queues(["train"])
    (queue,) = fake.queues.values()
    for call in recorded():
        if call["endpoint"] == "tasks.get_by_id" and call["status"] == 200:
            task = call["resp"]["data"]["task"]
            if "id" in task:
                fake.tasks[task["id"]] = task
                queue["entries"] = [{"task": task["id"], "added": "2026-11-22T02:10:20.499000+00:00"}]
                assert [found.name for found in client.waiting([TRAIN])] == [task["name"]]
                assert str(client.states([task["id"]])[task["id"]].status) == task["status"]
    assert fake.tasks
    client.close()
