"""A ClearML API server of a few hundred lines over real HTTP, faithful in what our client uses, that can be told to misbehave.

Shapes, codes and status rules are those of the recorded calls of a real server. It is not our embedded server, so that a
misunderstanding of ours cannot hide on both sides.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fleet.model import ServerAccess

Json = dict[str, Any]
Fault = Callable[["Handler", str, bytes], None]


class Refusal(Exception):
    def __init__(self, code: int, subcode: int, text: str) -> None:
        super().__init__(text)
        self.code, self.subcode = code, subcode


class FakeClearML:
    """Listens on a free port while it is open. `faults[endpoint]` are used up one a call; `calls` is what was asked."""

    def __init__(
        self,
        *,
        knows_expected_head: bool = True,
        has_add_task: bool = True,
        token_life_s: float = 86400,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.knows_expected_head = knows_expected_head
        self.has_add_task = has_add_task
        self.token_life_s = token_life_s
        self.lock = threading.RLock()
        self.queues: dict[str, Json] = {}
        self.tasks: dict[str, Json] = {}
        self.projects: dict[str, str] = {}
        self.workers: dict[str, Json] = {}
        self.events: list[Json] = []
        self.tokens: set[str] = set()
        self.calls: list[tuple[str, Any]] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._http.fake = self  # type: ignore[attr-defined]
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._http.server_address[1]}"
        self.access = ServerAccess(
            api_url=self.url, files_url=self.url, web_url=self.url, access_key="key", secret_key="secret"
        )
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def asked(self, endpoint: str) -> list[Any]:
        """The bodies of all calls of this endpoint."""
        return [body for name, body in self.calls if name == endpoint]

    # --- endpoints

    def login(self, authorization: str) -> Json:
        expected = "Basic " + base64.b64encode(f"{self.access.access_key}:{self.access.secret_key}".encode()).decode()
        if authorization != expected:
            raise Refusal(401, 22, "Invalid credentials")
        now = time.time()
        claims = {"exp": now + self.token_life_s, "iat": now, "api_version": "2.34", "jti": uuid.uuid4().hex}
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({}, claims)]
        token = ".".join([*parts, "x"])
        self.tokens.add(token)
        return {"token": token}

    def queues_get_all(self, body: Json) -> Json:
        found = [q for q in self.queues.values() if _selected(q, body)]
        most = body.get("max_task_entries")
        return {"queues": [_only({**q, "entries": q["entries"][:most]}, body) for q in found]}

    def queues_create(self, body: Json) -> Json:
        if len(body["name"]) < 3:
            raise Refusal(400, 800, "Value too short")
        if any(q["name"] == body["name"] for q in self.queues.values()):
            raise Refusal(400, 801, "Value combination already exists")
        id_ = uuid.uuid4().hex
        self.queues[id_] = {"id": id_, "name": body["name"], "tags": [], "system_tags": [], "entries": []}
        return {"id": id_}

    def queues_delete(self, body: Json) -> Json:
        self._queue(body)
        del self.queues[body["queue"]]
        return {"deleted": 1}

    def queues_get_next_task(self, body: Json) -> Json:
        entries = self._queue(body)["entries"]
        wanted = body.get("task") if self.knows_expected_head else None
        if not entries or (wanted and entries[0]["task"] != wanted):
            return {}
        return {"entry": entries.pop(0)}

    def queues_remove_task(self, body: Json) -> Json:
        queue = self._queue(body)
        kept = [entry for entry in queue["entries"] if entry["task"] != body["task"]]
        if len(kept) == len(queue["entries"]):
            raise Refusal(400, 703, "Task not found in queue")
        queue["entries"] = kept
        return {"removed": 1}

    def queues_add_task(self, body: Json) -> Json:
        if not self.has_add_task:
            raise Refusal(404, 0, "Unable to find endpoint for name queues.add_task")
        queue, task = self._queue(body), self._task(body)
        if any(entry["task"] == task["id"] for entry in queue["entries"]):
            raise Refusal(400, 706, "Task already queued")
        queue["entries"].append({"task": task["id"], "added": _now()})
        return {"added": 1}

    def queues_move_task_to_front(self, body: Json) -> Json:
        queue = self._queue(body)
        moved = [entry for entry in queue["entries"] if entry["task"] == body["task"]]
        if not moved:
            raise Refusal(400, 703, "Task not in queue")
        queue["entries"] = moved + [entry for entry in queue["entries"] if entry["task"] != body["task"]]
        return {"position": 0}

    def tasks_create(self, body: Json) -> Json:
        id_ = uuid.uuid4().hex
        self.tasks[id_] = {
            "status": "created",
            "status_message": "",
            "status_reason": "",
            "tags": [],
            "hyperparams": {},
            "runtime": {},
            "execution": {},
            "user": "__tests__",
            "last_update": _now(),
            **body,
            "id": id_,
        }
        return {"id": id_}

    def tasks_edit(self, body: Json) -> Json:
        self._task(body).update({key: value for key, value in body.items() if key not in ("task", "force")})
        return {"updated": 1}

    def tasks_get_all(self, body: Json) -> Json:
        found = [task for task in self.tasks.values() if _selected(task, body)]
        size = body.get("page_size") or len(found)
        start = body.get("page", 0) * size
        return {"tasks": [_only(task, body) for task in found[start : start + size]]}

    def tasks_enqueue(self, body: Json) -> Json:
        queue, task = self._queue(body), self._task(body)
        if any(entry["task"] == task["id"] for q in self.queues.values() for entry in q["entries"]):
            raise Refusal(400, 706, "Failed adding task to queue since task is already queued")
        self._set(task, "queued", ("created", "stopped", "failed"), body)
        task["execution"] = {**task["execution"], "queue": queue["id"]}
        queue["entries"].append({"task": task["id"], "added": _now()})
        return {"queued": 1, "updated": 1, "fields": {}}

    def tasks_started(self, body: Json) -> Json:
        return self._set(self._task(body), "in_progress", ("created", "queued", "stopped", "in_progress"), body)

    def tasks_completed(self, body: Json) -> Json:
        return self._set(self._task(body), "completed", ("in_progress", "stopped", "completed"), body)

    def tasks_failed(self, body: Json) -> Json:
        return self._set(self._task(body), "failed", ("in_progress", "failed"), body)

    def tasks_stopped(self, body: Json) -> Json:
        return self._set(self._task(body), "stopped", ("in_progress", "queued", "stopped"), body)

    def tasks_stop(self, body: Json) -> Json:
        task = self._task(body)
        if task["status"] == "in_progress" and task.get("last_worker"):
            task |= {"status_message": "stopping", "status_reason": body.get("status_reason", "")}
            return {"updated": 1}
        self._unqueue(task["id"])
        return self._set(task, "stopped", (), {"force": True, "status_reason": body.get("status_reason", "")})

    def tasks_reset(self, body: Json) -> Json:
        self._unqueue(body["task"])
        self._task(body)["runtime"] = {}
        return self._set(self._task(body), "created", (), {"force": True})

    def tasks_delete(self, body: Json) -> Json:
        self._unqueue(body["task"])
        self.tasks.pop(self._task(body)["id"])
        return {"deleted": True}

    def tasks_ping(self, body: Json) -> Json:
        self._task(body)["last_update"] = _now()
        return {}

    def projects_get_all(self, body: Json) -> Json:
        projects = [{"id": id_, "name": name} for id_, name in self.projects.items()]
        return {"projects": [_only(project, body) for project in projects if _selected(project, body)]}

    def projects_create(self, body: Json) -> Json:
        id_ = uuid.uuid4().hex
        self.projects[id_] = body["name"]
        return {"id": id_}

    def events_add_batch(self, lines: list[Json]) -> Json:
        assert all(len(line["msg"].encode()) <= 65536 for line in lines)
        self.events += lines
        return {"added": len(lines), "errors": 0, "errors_info": {}}

    def events_get_task_log(self, body: Json) -> Json:
        mine = [event for event in self.events if event["task"] == body["task"]]
        new = [event for event in mine if event["timestamp"] > body.get("from_timestamp", -1)]
        new.sort(key=lambda event: event["timestamp"])
        return {"events": new[: body["batch_size"]], "returned": len(new), "total": len(mine)}

    def workers_register(self, body: Json) -> Json:
        self.workers[body["worker"]] = {"id": body["worker"], **body}
        return {}

    def workers_status_report(self, body: Json) -> Json:
        assert isinstance(body["timestamp"], int)
        self.workers.setdefault(body["worker"], {"id": body["worker"]}).update({"task": None} | body)
        if body.get("task"):
            self._task(body).update(last_worker=body["worker"], last_update=_now())
        return {}

    def workers_unregister(self, body: Json) -> Json:
        if body["worker"] not in self.workers:
            raise Refusal(400, 1001, "worker is not registered")
        del self.workers[body["worker"]]
        return {}

    def workers_get_all(self, body: Json) -> Json:
        return {"workers": [{**w, "task": w.get("task") and {"id": w["task"]}} for w in self.workers.values()]}

    # --- inside

    def _queue(self, body: Json) -> Json:
        if body.get("queue") not in self.queues:
            raise Refusal(400, 701, f"Invalid queue id: id={body.get('queue')}")
        return self.queues[body["queue"]]

    def _task(self, body: Json) -> Json:
        if body.get("task") not in self.tasks:
            raise Refusal(400, 101, f"Invalid task id: ids=({body.get('task')})")
        return self.tasks[body["task"]]

    def _unqueue(self, task: str) -> None:
        for queue in self.queues.values():
            queue["entries"] = [entry for entry in queue["entries"] if entry["task"] != task]

    def _set(self, task: Json, status: str, allowed: tuple[str, ...], body: Json) -> Json:
        if task["status"] not in allowed and not body.get("force"):
            raise Refusal(400, 110, f"Invalid task status: current_status={task['status']}, new_status={status}")
        task.update(
            status=status,
            status_reason=body.get("status_reason") or "",
            status_message=body.get("status_message") or "",
            last_update=_now(),
        )
        return {"updated": 1, "fields": {"status": status}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        fake: FakeClearML = self.server.fake  # type: ignore[attr-defined]
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        endpoint = self.path.rsplit("/", 1)[-1]
        with fake.lock:
            is_lines = self.headers["Content-Type"] == "application/json-lines"
            body = [json.loads(line) for line in raw.splitlines()] if is_lines else json.loads(raw or b"{}")
            fake.calls.append((endpoint, body))
            fault = fake.faults[endpoint].popleft() if fake.faults[endpoint] else None
        if fault:
            fault(self, endpoint, raw)
        else:
            self.answer(*self.obey(endpoint, body))

    def obey(self, endpoint: str, body: Any) -> tuple[int, Json]:
        fake: FakeClearML = self.server.fake  # type: ignore[attr-defined]
        try:
            with fake.lock:
                data = self._obey(fake, endpoint, body)
                return 200, envelope(endpoint, data)
        except Refusal as no:
            return no.code, envelope(endpoint, {}, no.code, no.subcode, str(no))

    def _obey(self, fake: FakeClearML, endpoint: str, body: Any) -> Json:
        authorization = self.headers.get("Authorization", "")
        if endpoint == "auth.login":
            return fake.login(authorization)
        if authorization.removeprefix("Bearer ") not in fake.tokens:
            raise Refusal(401, 30, "Invalid token")
        do = getattr(fake, endpoint.replace(".", "_"), None)
        if do is None:
            raise Refusal(404, 0, f"Unable to find endpoint for name {endpoint}")
        return json.loads(json.dumps(do(body)))  # type: ignore[no-any-return]

    def answer(self, status: int, body: Json | bytes, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content_Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def envelope(endpoint: str, data: Any, code: int = 200, subcode: int = 0, text: str = "OK") -> Json:
    meta = {
        "id": uuid.uuid4().hex,
        "trx": uuid.uuid4().hex,
        "endpoint": {"name": endpoint, "requested_version": "2.34", "actual_version": "1.0"},
        "result_code": code,
        "result_subcode": subcode,
        "result_msg": text,
        "error_stack": None,
        "error_data": {},
    }
    return {"meta": meta, "data": data}


# --- faults


def busy(retry_after: str = "0") -> Fault:
    """503 that says when to come back; nothing was done."""
    return lambda handler, endpoint, raw: handler.answer(
        503, envelope(endpoint, {}, 503, 0, "Server is starting"), Retry_After=retry_after
    )


def broken(handler: Handler, endpoint: str, raw: bytes) -> None:
    """500 in the envelope."""
    handler.answer(500, envelope(endpoint, {}, 500, 100, "General data error"))


def cut_before(handler: Handler, endpoint: str, raw: bytes) -> None:
    """The connection is reset without an answer, and nothing was done."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    handler.connection.close()
    handler.close_connection = True


def cut_after(handler: Handler, endpoint: str, raw: bytes) -> None:
    """It was done, and the connection is reset in the middle of the answer."""
    status, answer = handler.obey(endpoint, json.loads(raw))
    whole = json.dumps(answer).encode()
    handler.answer(status, whole[: len(whole) // 2], Content_Length=str(len(whole)))
    handler.close_connection = True


def raw_answer(content: bytes, status: int = 200, **headers: str) -> Fault:
    return lambda handler, endpoint, raw: handler.answer(status, content, **headers)


def data(value: Any) -> Fault:
    """A good envelope around whatever this is."""
    return lambda handler, endpoint, raw: handler.answer(200, envelope(endpoint, value))


def hang(handler: Handler, endpoint: str, raw: bytes) -> None:
    """No answer, for as long as the server lives."""
    handler.server.fake.closing.wait(30)  # type: ignore[attr-defined]
    handler.close_connection = True


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _selected(item: Json, body: Json) -> bool:
    return (
        ("id" not in body or item["id"] in body["id"])
        and ("name" not in body or bool(re.search(body["name"], item["name"])))
        and ("status" not in body or item["status"] in body["status"])
    )


def _only(item: Json, body: Json) -> Json:
    """The fields asked for; dotted ones nested, as the real server answers."""
    fields = body.get("only_fields")
    if fields is None:
        return item
    found: Json = {"id": item["id"]}
    for field in fields:
        value: Any = item
        *path, last = field.split(".")
        place = found
        for part in path:
            value = value.get(part) or {}
            place = place.setdefault(part, {})
        if last in value:
            place[last] = value[last]
    return found
