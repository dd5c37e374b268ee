"""The embedded server in this process, called through its ASGI app, with a clock that the test moves."""

import asyncio
import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.server.app import Server


@dataclass
class Clock:
    """Stands still until it is moved, but for a microsecond a reading: no two things happen at the same time."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at

    def pass_s(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Response:
    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        assert self.code == 200, self.body[:500]
        return self.json["data"]

    @property
    def codes(self) -> tuple[int, int]:
        return self.code, self.json["meta"]["result_subcode"]


@dataclass
class Client:
    """A server, a user's credentials, and calls to it."""

    server: Server
    clock: Clock
    authorization: str
    enqueued: list[str]

    def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, query: str = ""
    ) -> Response:
        given = {"authorization": self.authorization, **(headers or {})}
        return asyncio.run(_send(self.server.app, method, path, body, given, query))

    def ask(self, name: str, /, **fields: Any) -> Response:
        return self.send("POST", f"/{name}", json.dumps(fields).encode())

    def call(self, name: str, /, **fields: Any) -> Any:
        return self.ask(name, **fields).data

    def report(self, *events: dict[str, Any]) -> Response:
        body = "\n".join(json.dumps(event) for event in events).encode()
        return self.send("POST", "/events.add_batch", body, {"content-type": "application/json-lines"})

    # --- what many tests build

    def queue(self, name: str = "train") -> str:
        return str(self.call("queues.create", name=name)["id"])

    def task(self, name: str = "task", **fields: Any) -> str:
        return str(self.call("tasks.create", name=name, type="training", **fields)["id"])

    def queued(self, queue: str, name: str = "task", **fields: Any) -> str:
        task = self.task(name, **fields)
        self.call("tasks.enqueue", task=task, queue=queue)
        return task

    def running(self, queue: str, worker: str = "w:0", name: str = "task") -> str:
        """A task that a worker has popped, started and reported."""
        task = self.queued(queue, name)
        assert self.pop(queue) == task
        self.call("tasks.started", task=task, force=True, status_message="pulled by agent")
        self.call("workers.status_report", worker=worker, task=task, timestamp=1)
        return task

    def pop(self, queue: str, **fields: Any) -> str | None:
        entry = self.call("queues.get_next_task", queue=queue, **fields).get("entry")
        return entry and str(entry["task"])

    def waiting(self, queue: str) -> list[str]:
        return [e["task"] for e in self.call("queues.get_by_id", queue=queue)["queue"]["entries"]]

    def status(self, task: str) -> str:
        return str(self.held(task)["status"])

    def held(self, task: str) -> dict[str, Any]:
        return dict(self.call("tasks.get_by_id", task=task)["task"])

    def console(self, task: str) -> list[str]:
        page = self.call("events.get_task_log", task=task, navigate_earlier=False, order="asc", batch_size=1000)
        return [event["msg"] for event in page["events"]]


async def _send(app: Any, method: str, path: str, body: bytes, headers: dict[str, str], query: str) -> Response:
    sent: list[dict[str, Any]] = []
    chunks = [body[i : i + 65536] for i in range(0, len(body), 65536)] or [b""]
    messages = [{"type": "http.request", "body": c, "more_body": i + 1 < len(chunks)} for i, c in enumerate(chunks)]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()  # the client stays
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    head = sent[0]
    body = b"".join(m.get("body", b"") for m in sent[1:])
    return Response(head["status"], {k.decode().lower(): v.decode() for k, v in head["headers"]}, body)


def basic(pair: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(pair).encode()).decode()
