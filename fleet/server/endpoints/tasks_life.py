"""tasks.* that move a task through its life: enqueue, started, stop, completed, failed, reset, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from fleet.server import events, queues, status, tasks, waiting
from fleet.server.call import Call, writes
from fleet.server.records import Doc, iso, load
from fleet.server.refusal import Refusal, already_queued, invalid, no_queue, wrong_status
from fleet.server.tables import ENTRY, TASK, WORKER

RESET = "reset"


def started(call: Call) -> Doc:
    """Repeated four times by an agent; the first sets `started`. It never takes back that its user wants the end."""
    row = tasks.get(call, call.required("task"))
    columns: Doc = {"started": call.now} if row.status != status.IN_PROGRESS or not row.started else {}
    if row.status == status.IN_PROGRESS and status.STOPPING in row.status_message:
        columns["status_message"] = row.status_message
    if row.status != status.IN_PROGRESS:
        columns["completed"] = None
    fields = tasks.change_status(call, row, status.IN_PROGRESS, force=call.flag("force"), **columns)
    return {"fields": _shown(fields), "started": 1, "updated": 1}


def _end(new: str) -> Callable[[Call], Doc]:
    def end(call: Call) -> Doc:
        row = tasks.get(call, call.required("task"))
        fields = tasks.change_status(call, row, new, force=call.flag("force"), completed=call.now)
        return {"fields": _shown(fields), "updated": 1}

    return end


def completed(call: Call) -> Doc:
    data = _end(status.COMPLETED)(call)
    if not call.flag("publish"):
        return {**data, "published": 0}
    return {**data, "published": publish(call)["updated"]}


def publish(call: Call) -> Doc:
    row = tasks.get(call, call.required("task"))
    fields = tasks.change_status(call, row, status.PUBLISHED, force=call.flag("force"), published=call.now)
    return {"fields": {**_shown(fields), "output": load(row.doc)["output"]}, "updated": 1}


def close(call: Call) -> Doc:
    row = tasks.get(call, call.required("task"))
    return {"fields": tasks.change_status(call, row, status.CLOSED, force=call.flag("force")), "updated": 1}


def stop(call: Call) -> Doc:
    """At once if nobody would obey; else ask the agent, by the word "stopping" in status_message."""
    row = tasks.get(call, call.required("task"))
    if row.status != status.IN_PROGRESS or not _has_agent(call, row):
        fields = tasks.change_status(call, row, status.STOPPED, force=call.flag("force"), completed=call.now)
    else:
        fields = tasks.change_status(call, row, status.IN_PROGRESS, status_message=status.STOPPING)
    return {"fields": _shown(fields), "updated": 1}


def _has_agent(call: Call, row: sa.Row[Any]) -> bool:
    silent_since = iso(call.at - call.settings.stop_patience)
    if not row.last_worker or row.last_update < silent_since or "development" in load(row.doc)["system_tags"]:
        return False
    alive = sa.select(WORKER.c.id).where(WORKER.c.id == row.last_worker, WORKER.c.expires > call.now)
    return call.connection.execute(alive).first() is not None


def enqueue(call: Call) -> Doc:
    row = tasks.get(call, call.required("task"))
    queue = _queue_wanted(call, row)
    if call.connection.execute(sa.select(ENTRY.c.task).where(ENTRY.c.task == row.id)).first():
        raise already_queued(row.id)
    before = row.enqueue_status if row.status == status.QUEUED else row.status
    tasks.leave_queue(call, row.id)
    fields = tasks.change_status(
        call, row, status.QUEUED, force=call.flag("force"), enqueue_status=before, queue=queue.id
    )
    system_tags: list[str] = load(row.doc)["system_tags"]
    if "development" in system_tags:
        tasks.edit(call, row, {"system_tags": [t for t in system_tags if t != "development"]})
    waiting.append(call, queue.id, row.id)
    shown = {k: v for k, v in fields.items() if k != "queue"}
    data: Doc = {"fields": {**shown, "execution.queue": queue.id}, "queued": 1, "updated": 1}
    if call.flag("verify_watched_queue"):
        data["queue_watched"] = _is_watched(call, queue.id)
    return data


def _queue_wanted(call: Call, row: sa.Row[Any]) -> sa.Row[Any]:
    if queue := call.text("queue"):
        return queues.get(call, queue)
    if name := call.text("queue_name"):
        return queues.by_name(call, name) or queues.get(call, queues.create(call, name))
    if row.queue:
        return queues.get(call, row.queue)
    default = queues.default(call)
    if default is None:
        raise no_queue("default")
    return default


def _is_watched(call: Call, queue: str) -> bool:
    rows = call.connection.execute(sa.select(WORKER.c.doc).where(WORKER.c.expires > call.now)).scalars()
    return any(queue in load(doc)["queues"] for doc in rows)


def dequeue(call: Call) -> Doc:
    """Out of its queue, to what it was before, or to `new_status`. Not a claim: an agent calls it on a running task."""
    row = tasks.get(call, call.required("task"))
    new = call.text("new_status") or row.enqueue_status or status.CREATED
    if new not in status.ALL:
        raise invalid("new_status", f"one of {', '.join(status.ALL)}")
    if row.status not in (status.QUEUED, status.IN_PROGRESS):
        return {
            "dequeued": 0,
            "fields": {},
            "updated": 0,
        }  # by this `execute --require-queue` knows that it must not run
    if row.status == status.IN_PROGRESS and new != status.IN_PROGRESS:
        raise wrong_status(row.status, new)
    columns: Doc = {"enqueue_status": None}
    if row.status == new:  # the agent's second word on a running task must not take back a wish to stop it
        columns |= {"status_message": row.status_message, "status_reason": row.status_reason}
    if new == status.IN_PROGRESS and not row.started:
        columns["started"] = call.now
    fields = tasks.change_status(call, row, new, force=True, **columns)
    return {"dequeued": 1, "fields": _shown(fields), "updated": 1}


def reset(call: Call) -> Doc:
    """Back to created, without what its run left: events, output artifacts and models, runtime, worker."""
    row = tasks.get(call, call.required("task"))
    if row.status == status.PUBLISHED and not call.flag("force"):
        raise wrong_status(row.status, status.CREATED)
    was_queued = tasks.leave_queue(call, row.id)
    nothing = dict.fromkeys(("started", "completed", "published", "last_worker", "last_worker_report", "queue"))
    again = {"enqueue_status": None, "last_iteration": 0, "metrics": "{}"}
    words = {"status_reason": RESET, "status_message": RESET}
    fields = tasks.change_status(call, row, status.CREATED, force=True, **nothing, **again, **words)
    doc = load(row.doc)
    kept = [a for a in doc["execution"].get("artifacts") or [] if a.get("mode") == "input"]
    left: Doc = {"runtime": {}, "execution": {"artifacts": kept}, "models": {"output": []}, "output": {}}
    if call.flag("clear_all"):
        left |= {name: tasks.DOC_FIELDS[name][1] for name in ("script", "execution", "hyperparams", "configuration")}
    tasks.edit(call, row, left)
    events.forget(call, row.id)
    shown = {k: v for k, v in _shown(fields).items() if k not in nothing and k not in again}
    return {
        "deleted_models": 0,
        "dequeued": {"removed": 1} if was_queued else {},
        "events": {},
        "fields": shown,
        "updated": 1,
        "urls": {},
    }


def delete(call: Call) -> Doc:
    """The task, its events and its place in a queue. One that runs or is published is deleted with force only."""
    row = tasks.get(call, call.required("task"))
    if row.status in (status.QUEUED, status.IN_PROGRESS, status.PUBLISHED) and not call.flag("force"):
        raise Refusal(400, 123, f"Task cannot be deleted: task={row.id}, status={row.status}; use force")
    events.forget(call, row.id)
    tasks.leave_queue(call, row.id)
    children = call.connection.execute(sa.update(TASK).where(TASK.c.parent == row.id).values(parent=None)).rowcount
    call.connection.execute(sa.delete(TASK).where(TASK.c.id == row.id))
    return {"deleted": True, "updated_children": children, "updated_models": 0, "deleted_models": 0, "urls": None}


def archive(call: Call) -> Doc:
    """Adds the system tag "archived": such tasks are hidden from ordinary views."""
    ids = call.texts("tasks")
    for task in ids:
        row = tasks.get(call, task)
        system_tags = load(row.doc)["system_tags"]
        if "archived" not in system_tags:
            tasks.edit(call, row, {"system_tags": [*system_tags, "archived"]})
    return {"archived": len(ids)}


def ping(call: Call) -> Doc:
    task = call.required("task")
    tasks.touch(call, task)
    waiting.renew(call, task)
    return {}


def stop_silent(call: Call) -> int:
    """The watchdog: tasks in progress without a sign of life since the patience ran out are stopped; how many."""
    silent = iso(call.at - call.settings.watchdog)
    query = sa.select(TASK).where(TASK.c.status == status.IN_PROGRESS, TASK.c.last_update < silent)
    rows = call.connection.execute(query.with_for_update(skip_locked=True)).all()
    for row in rows:
        why = "Forced stop (non-responsive)"
        tasks.change_status(call, row, status.STOPPED, status_reason=why, status_message=why, completed=call.now)
    return len(rows)


def _shown(fields: Doc) -> Doc:
    return {name: value for name, value in fields.items() if value is not None or name == "enqueue_status"}


def _many(one: Callable[[Call], Doc]) -> Callable[[Call], Doc]:
    """The same for a list of ids: each succeeds or fails by itself."""

    def many(call: Call) -> Doc:
        succeeded, failed = [], []
        for task in call.texts("ids"):
            single = call.with_fields({**call.fields, "task": task, "tasks": [task]})
            try:
                with call.connection.begin_nested():
                    succeeded.append({"id": task, **one(single)})
            except Refusal as refusal:
                codes = {"codes": [refusal.code, refusal.subcode], "msg": str(refusal)}
                failed.append({"id": task, "error": codes})
        return {"succeeded": succeeded, "failed": failed}

    return many


ENDPOINTS = {
    "tasks.started": writes(started),
    "tasks.completed": writes(completed),
    "tasks.failed": writes(_end(status.FAILED)),
    "tasks.stopped": writes(_end(status.STOPPED)),
    "tasks.publish": writes(publish),
    "tasks.close": writes(close),
    "tasks.stop": writes(stop),
    "tasks.stop_many": writes(_many(stop)),
    "tasks.enqueue": writes(enqueue),
    "tasks.enqueue_many": writes(_many(enqueue)),
    "tasks.dequeue": writes(dequeue),
    "tasks.reset": writes(reset),
    "tasks.delete": writes(delete),
    "tasks.delete_many": writes(_many(delete)),
    "tasks.archive": writes(archive),
    "tasks.archive_many": writes(_many(archive)),
    "tasks.ping": writes(ping),
}
