"""workers.*: who says that it works, on what, and how it is told to stop pulling."""

from __future__ import annotations

import fnmatch
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from fleet.server import tasks, waiting
from fleet.server.call import Call, reads, writes
from fleet.server.filters import tag_clauses
from fleet.server.records import Doc, dump, iso, load
from fleet.server.refusal import invalid
from fleet.server.tables import ENTRY, PROJECT, PROPERTY, QUEUE, TASK, WORKER

LONGEST_ID = 255  # characters
_ONE = sa.select(WORKER).where(WORKER.c.id == sa.bindparam("worker_id")).with_for_update()
_UPDATE = sa.update(WORKER).where(WORKER.c.id == sa.bindparam("worker_id"))


def register(call: Call) -> Doc:
    worker = call.required("worker", at_most=LONGEST_ID)
    default = int(call.settings.worker_timeout.total_seconds())
    timeout_s = max(call.seconds("timeout", default), 1)
    old = _row(call, worker)
    if old is not None:  # the same name again is a new life: an autoscaler counts idle time from here
        call.connection.execute(_UPDATE, {"worker_id": worker, "registered": call.now, "active": call.now})
    doc = {
        "queues": call.texts("queues"),
        "tags": call.texts("tags"),
        "system_tags": call.texts("system_tags"),
        "ip": call.remote,
        "user": call.identity.user,
        "machine_stats": {},
    }
    _save(call, worker, old, doc, task=None, queue=None, timeout_s=timeout_s)
    return {}


def status_report(call: Call) -> Doc:
    """What a worker does now. No `task` = idle. An unknown worker is registered by it."""
    worker = call.required("worker", at_most=LONGEST_ID)
    old = _row(call, worker)
    default = int(call.settings.worker_timeout.total_seconds())
    doc: Doc = load(old.doc) if old else {"queues": [], "tags": [], "system_tags": [], "machine_stats": {}}
    for kind in ("queues", "tags", "system_tags"):
        if call.has(kind):
            doc[kind] = call.texts(kind)
    doc |= {"ip": call.remote, "user": call.identity.user}
    if call.has("machine_stats"):
        doc["machine_stats"] = call.mapping("machine_stats")
    task = call.text("task") or None
    if task is not None:
        tasks.touch(call, task, last_worker=worker, last_worker_report=call.now)
    _save(
        call, worker, old, doc, task=task, queue=call.text("queue") or None, timeout_s=old.timeout_s if old else default
    )
    return {}


def unregister(call: Call) -> Doc:
    worker = call.required("worker", at_most=LONGEST_ID)
    old = _row(call, worker)
    call.connection.execute(sa.delete(WORKER).where(WORKER.c.id == worker))
    if old is not None and old.task is not None:
        waiting.release(call, old.task)
    return {}


def forget_expired(call: Call) -> None:
    """Workers that have been silent for longer than they said are no more."""
    expired = sa.select(WORKER).where(WORKER.c.expires <= call.now)
    for row in call.connection.execute(expired).all():
        call.connection.execute(sa.delete(WORKER).where(WORKER.c.id == row.id))
        if row.task is not None:
            waiting.release(call, row.task)


def get_all(call: Call) -> Doc:
    query = sa.select(WORKER).where(WORKER.c.expires > call.now).order_by(WORKER.c.id)
    if seconds := call.seconds("last_seen", 0):
        query = query.where(WORKER.c.reported >= iso(call.at - timedelta(seconds=seconds)))
    pattern = call.text("worker_pattern") or "*"
    rows = [row for row in call.connection.execute(query) if fnmatch.fnmatchcase(row.id, pattern)]
    shown = [_as_doc(call, row, _Names(call, rows)) for row in rows] if rows else []
    for kind in ("tags", "system_tags"):
        clauses = tag_clauses(call.texts(kind))
        shown = [w for w in shown if all(any(rule.holds(w[kind]) for rule in clause) for clause in clauses)]
    return {"workers": shown}


def get_count(call: Call) -> Doc:
    return {"count": len(get_all(call)["workers"])}


def get_runtime_properties(call: Call) -> Doc:
    """What an operator, or the worker itself, has noted on it. Key `force`, value `off`: it pulls no more."""
    query = sa.select(PROPERTY).where(PROPERTY.c.worker == call.required("worker")).order_by(PROPERTY.c.key)
    rows = call.connection.execute(query)
    return {"runtime_properties": [{"key": row.key, "value": row.value} for row in rows]}


def set_runtime_properties(call: Call) -> Doc:
    """Sets these keys and leaves the others; an empty value (null, "") takes a key away."""
    worker = call.required("worker", at_most=LONGEST_ID)
    for item in call.mappings("runtime_properties"):
        key, value = item.get("key"), item.get("value")
        if not isinstance(key, str) or not key or len(key) > LONGEST_ID:
            raise invalid("runtime_properties", "expected a list of {key, value}")
        call.connection.execute(sa.delete(PROPERTY).where(PROPERTY.c.worker == worker, PROPERTY.c.key == key))
        if value not in (None, ""):
            call.connection.execute(sa.insert(PROPERTY), {"worker": worker, "key": key, "value": str(value)})
    return {}


def _row(call: Call, worker: str) -> sa.Row[Any] | None:
    return call.connection.execute(_ONE, {"worker_id": worker}).first()


def _save(
    call: Call, worker: str, old: sa.Row[Any] | None, doc: Doc, *, task: str | None, queue: str | None, timeout_s: int
) -> None:
    """Write what a worker said, and let go of the task that it no longer names."""
    values = {
        "task": task,
        "queue": queue,
        "reported": call.now,
        "timeout_s": timeout_s,
        "doc": dump(doc),
        "expires": iso(call.at + timedelta(seconds=timeout_s)),
    }
    if old is None:
        row = {"id": worker, "registered": call.now, "active": call.now, **values}
        call.connection.execute(sa.insert(WORKER), row)
    else:
        if task is not None or old.task is not None:
            values["active"] = call.now
        call.connection.execute(_UPDATE, {"worker_id": worker, **values})
    if old is not None and old.task not in (None, task):
        waiting.release(call, old.task)


class _Names:
    """What the ids in some workers stand for, asked once for all of them."""

    def __init__(self, call: Call, rows: list[sa.Row[Any]]) -> None:
        queues = {q for row in rows for q in [row.queue, *load(row.doc)["queues"]] if q}
        named = sa.select(QUEUE.c.id, QUEUE.c.name).where(QUEUE.c.id.in_(queues))
        self.queues = {row.id: row.name for row in call.connection.execute(named)}
        counts = sa.select(ENTRY.c.queue, sa.func.count().label("n")).where(ENTRY.c.queue.in_(queues))
        self.waits = {row.queue: row.n for row in call.connection.execute(counts.group_by(ENTRY.c.queue))}
        columns = (TASK.c.id, TASK.c.name, TASK.c.project, TASK.c.started, TASK.c.last_iteration)
        found = sa.select(*columns, PROJECT.c.name.label("project_name")).outerjoin(
            PROJECT, PROJECT.c.id == TASK.c.project
        )
        ids = {row.task for row in rows if row.task}
        self.tasks = {row.id: row for row in call.connection.execute(found.where(TASK.c.id.in_(ids)))}

    def queue(self, queue: str) -> Doc:
        return {"id": queue, "name": self.queues.get(queue, ""), "num_tasks": self.waits.get(queue, 0)}


def _as_doc(call: Call, row: sa.Row[Any], names: _Names) -> Doc:
    doc = load(row.doc)
    user = doc.get("user", "")
    shown: Doc = {
        "id": row.id,
        "company": {"id": call.identity.company, "name": "fleet"},
        "ip": doc.get("ip", ""),
        "key": f"worker_{call.identity.company}_{user}_{row.id}",
        "user": {"id": user, "name": user},
        "register_time": row.registered,
        "register_timeout": row.timeout_s,
        "last_report_time": row.reported,
        "last_activity_time": row.active,
        "tags": doc["tags"],
        "system_tags": doc["system_tags"],
        "queues": [names.queue(q) for q in doc["queues"]],
    }
    task = names.tasks.get(row.task)
    if row.task and task is None:  # a task that this server does not know: still not idle
        shown["task"] = {"id": row.task, "name": ""}
    if task is not None:
        started = datetime.fromisoformat(task.started) if task.started else call.at
        running_ms = max(int((call.at - started).total_seconds() * 1000), 0)
        shown["task"] = {
            "id": task.id,
            "name": task.name,
            "running_time": running_ms,
            "last_iteration": task.last_iteration,
        }
        if task.project:
            shown["project"] = {"id": task.project, "name": task.project_name or ""}
    if row.queue:
        shown["queue"] = names.queue(row.queue)
    if call.flag("include_stats", True) and doc.get("machine_stats"):
        shown["machine_stats"] = doc["machine_stats"]
    return shown


ENDPOINTS = {
    "workers.register": writes(register),
    "workers.status_report": writes(status_report),
    "workers.unregister": writes(unregister),
    "workers.get_all": reads(get_all),
    "workers.get_count": reads(get_count),
    "workers.get_runtime_properties": reads(get_runtime_properties),
    "workers.set_runtime_properties": writes(set_runtime_properties),
}
