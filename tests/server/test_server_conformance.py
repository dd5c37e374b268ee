"""Our answers beside those of a real server: what was recorded for a call has, in ours, the same fields of the same kinds.

The recordings are no part of the repository; without them this skips.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.embedded import Client

TRACES = Path(__file__).parents[3] / "shared" / "data" / "clearml_traces"
EVENT = {"type": "log", "msg": "x", "timestamp": 1, "worker": "w:0", "level": "INFO"}
# What ours leave out: an order of cards in a web page, a database's own time, what the SDK sends by mistake; a queue's
# metadata was a list once and is an object since 2.13.
NOT_OURS = ("featured", "@timestamp", "events[].method", "plots[].method", "queues[].metadata")


def recorded() -> dict[str, list[dict[str, Any]]]:
    """One call for each endpoint, set of sent fields and outcome."""
    seen: dict[str, dict[str, dict[str, Any]]] = {}
    for file in sorted(TRACES.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            call = json.loads(line)
            name = call["path"].split("?")[0].rsplit("/", 1)[-1]
            is_api = "." in name and "data" in (call["resp"] if isinstance(call["resp"], dict) else {})
            if is_api and call["resp"]["meta"]["result_code"] == 200:
                fields = call["req"] if isinstance(call["req"], dict) else {}
                seen.setdefault(name, {}).setdefault(",".join(sorted(fields)) + str(_is_bare(call)), call)
    return {name: list(calls.values()) for name, calls in seen.items()}


def _is_bare(call: dict[str, Any]) -> bool:
    return not call["resp"]["data"]


CALLS = recorded()


def differences(theirs: Any, ours: Any, path: str) -> Iterator[str]:
    """Fields of theirs that ours lack, or have of another kind. Lists are compared by their first items."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict):
            yield f"{path}: {type(ours).__name__} instead of an object"
            return
        for key in theirs:
            if _is_a_name(path):  # keys that are names of people's own things
                continue
            if key not in ours:
                yield f"{path}.{key} is missing"
            else:
                yield from differences(theirs[key], ours[key], f"{path}.{key}")
    elif isinstance(theirs, list):
        if not isinstance(ours, list):
            yield f"{path}: {type(ours).__name__} instead of a list"
        elif theirs and ours:
            yield from differences(theirs[0], ours[0], f"{path}[]")
    elif theirs is not None and ours is not None:
        kind = float if isinstance(theirs, float) else type(theirs)
        if not isinstance(ours, (int, float) if kind is float else kind):
            yield f"{path}: {type(ours).__name__} instead of {type(theirs).__name__}"


def _is_a_name(path: str) -> bool:
    return path.rsplit(".", 1)[-1] in (
        *(
            "hyperparams",
            "configuration",
            "runtime",
            "requirements",
            "last_metrics",
            "metric_stats",
            "design",
            "dequeued",
        ),
        *("container", "type_data", "s", "events", "errors_info"),
    )


def a_world(client: Client) -> dict[str, str]:
    """One of each thing that recorded calls speak of, by the field that names it."""
    unique = str(next(NUMBERS))
    if not client.call("queues.get_default"):
        client.queue("default")
    project = client.call("projects.create", name=f"lab/proj{unique}")["id"]
    queue, busy = client.queue(f"queue{unique}"), client.queue(f"busy{unique}")
    waiting = client.queued(queue, "waiting")
    task = client.running(busy, f"vm:{unique}", f"running{unique}")
    script = dict.fromkeys(("repository", "branch", "version_num", "entry_point", "working_dir", "diff"), "")
    client.call("tasks.edit", task=task, force=True, project=project, parent=waiting, script=script)
    client.call("tasks.completed", task=task, force=True)
    artifact = {"key": "a", "type": "dict", "uri": "u", "content_size": 1, "hash": "h", "timestamp": 1, "type_data": {}}
    client.call("tasks.add_or_update_artifacts", task=task, artifacts=[artifact])
    model = client.call("models.create", uri="u", name="model", project=project, task=task)["id"]
    client.call("tasks.add_or_update_model", task=task, name="w", model=model, type="output")
    scalar = {"type": "training_stats_scalar", "task": task, "metric": "s", "variant": "v", "timestamp": 1}
    plot = {"type": "plot", "task": task, "metric": "h", "variant": "v", "iter": 0, "plot_str": "{}", "timestamp": 1}
    image = {
        "type": "training_debug_image",
        "task": task,
        "metric": "img",
        "variant": "v",
        "iter": 0,
        "url": "u",
        "key": "k",
    }
    events = [{**scalar, "iter": 0, "value": 1.0}, {**scalar, "metric": "Summary", "iter": -(2**31), "value": 0.9}]
    client.report({**EVENT, "task": task}, plot, {**image, "timestamp": 1}, *events)
    worker = f"vm:{unique}"
    client.call("workers.register", worker=worker, queues=[queue])
    client.call("workers.status_report", worker=worker, task=task, queue=queue, timestamp=1)
    names = {"project.name": f"^lab/proj{unique}$", "queue.name": f"default{unique}$", "task.name": f"running{unique}"}
    things = {"project": project, "queue": queue, "task": task, "model": model, "worker": worker}
    return {**things, **names, "waiting": waiting, "unique": unique}


NUMBERS = itertools.count()
WAITS = {"queues.move_task_backward", "queues.move_task_forward", "queues.move_task_to_back", "tasks.stopped"}
WAITS |= {"queues.move_task_to_front", "queues.remove_task", "queues.get_next_task"}
RUNNING = {"tasks.failed", "tasks.stop"}
FRESH = {"tasks.enqueue", "tasks.publish", "tasks.started"}  # of a task that waits nowhere


def as_ours(name: str, fields: dict[str, Any], world: dict[str, str], client: Client) -> dict[str, Any]:
    """The recorded request, about things of our world."""
    service, _, verb = name.partition(".")
    kind = service.rstrip("s")
    task = world["waiting"] if name in WAITS or (verb == "dequeue" and "new_status" not in fields) else world["task"]
    if name in FRESH:
        task = client.task()
        client.call("tasks.started" if verb == "enqueue" else "tasks.failed", task=task, force=True)
        client.call("tasks.reset" if verb == "started" else "tasks.stopped", task=task, force=True)
    if name in RUNNING or (verb == "dequeue" and "new_status" in fields):
        client.call("tasks.started", task=task, force=True)
    names: dict[str, Any] = {**world, "task": task, "new_task_parent": task, "new_task_project": world["project"]}
    ours = {key: names[key] if key in names and isinstance(value, str) else value for key, value in fields.items()}
    for key in ("task", "tasks"):
        if isinstance(fields.get(key), list):
            ours[key] = [task]
    if "id" in fields:
        ours["id"] = [world[kind]]
    if isinstance(fields.get("project"), list):
        ours["project"] = [world["project"]]
    if verb == "create":
        ours["name"] = f"new {world['unique']}"
    if verb == "get_all" and "name" in fields:
        ours["name"] = world[f"{kind}.name"]
    if name == "tasks.get_all" and "status" in fields:
        ours["status"] = ["completed"]
    if name == "events.debug_images":
        ours["metrics"] = [{**fields["metrics"][0], "task": task}]
    return ours


@pytest.mark.skipif(not CALLS, reason=f"no recordings of a real server at {TRACES}")
@pytest.mark.parametrize("name", sorted(set(CALLS) - {"workers.get_runtime_properties"}))
def test_answers_have_the_fields_and_kinds_of_a_real_server(client: Client, name: str) -> None:
    found = []
    for call in CALLS[name]:
        world = a_world(client)
        if name == "events.add_batch":
            answer = client.report({**EVENT, "task": world["task"]})
        elif name == "auth.login":
            answer = client.send("GET", "/auth.login")
        else:
            fields = call["req"] if isinstance(call["req"], dict) else {}
            answer = client.ask(name, **as_ours(name, fields, world, client))
        found += [
            d
            for d in differences(call["resp"]["data"], answer.data, name)
            if not any(d.split(" ")[0].endswith(n) for n in NOT_OURS)
        ]
        found += list(differences(call["resp"]["meta"], answer.json["meta"], "meta"))
    assert [d for d in found if not d.split(" ")[0].rstrip(":").endswith(NOT_OURS)] == []
