"""queues.*: what waits, and the way out of a queue."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from fleet.server import queues, status, tasks, waiting
from fleet.server.call import Call, reads, writes
from fleet.server.filters import query_of
from fleet.server.records import Doc, dump, load
from fleet.server.refusal import already_queued, not_in_queue, not_unique, queue_not_empty
from fleet.server.tables import ENTRY, QUEUE, TASK

SHORTEST_NAME = 3


def get_all(call: Call) -> Doc:
    query = query_of(call)
    rows = sa.select(QUEUE).order_by(QUEUE.c.created)
    # Only who asks for ids may see tombstones: an agent that polls a queue which was deleted.
    rows = rows.where(QUEUE.c.deleted.is_(None) if query.ids is None else QUEUE.c.id.in_(query.ids))
    with_entries = not query.only_fields or any(f.split(".")[0] == "entries" for f in query.only_fields)
    limit = call.number("max_task_entries", 0) or None
    docs = queues.as_docs(call, call.connection.execute(rows).all(), with_entries, limit)
    return {"queues": query.select(docs)}


def get_by_id(call: Call) -> Doc:
    row = queues.get(call, call.required("queue"))
    limit = call.number("max_task_entries", 0) or None
    return {"queue": queues.as_docs(call, [row], with_entries=True, limit=limit)[0]}


def get_default(call: Call) -> Doc:
    row = queues.default(call)
    return {"id": row.id, "name": row.name} if row else {}


def get_next_task(call: Call) -> Doc:
    """Pop the first that may be given away; with `task`, only if that is the first."""
    wanted = call.text("task")
    queue = call.required("queue")
    while (entry := waiting.available(call, queue)) is not None:
        if wanted and entry.task != wanted:
            break
        if waiting.claim(call, entry):
            data: Doc = {"entry": {"task": entry.task, "added": entry.added}}
            if call.flag("get_task_info"):
                row = tasks.get(call, entry.task)
                data["task_info"] = {"company": call.identity.company, "user": row.user}
            return data
    return {}


def peek_task(call: Call) -> Doc:
    order = waiting.entries(call, [queues.get(call, call.required("queue")).id], limit=1)
    first = next(iter(order.values()))
    return {"task": first[0]["task"]} if first else {}


def remove_task(call: Call) -> Doc:
    """Take this very task, wherever it stands: removed is 1 for exactly one of all who try."""
    entry = waiting.available(call, queues.get(call, call.required("queue")).id, call.required("task"))
    return {"removed": int(entry is not None and waiting.claim(call, entry))}


def add_task(call: Call) -> Doc:
    """To the tail, as tasks.enqueue would, but for the name."""
    queue, row = queues.get(call, call.required("queue")), tasks.get(call, call.required("task"))
    if call.connection.execute(sa.select(ENTRY.c.task).where(ENTRY.c.task == row.id)).first():
        raise already_queued(row.id)
    before = row.enqueue_status if row.status == status.QUEUED else row.status
    tasks.leave_queue(call, row.id)
    tasks.change_status(call, row, status.QUEUED, force=True, enqueue_status=before, queue=queue.id)
    waiting.append(call, queue.id, row.id)
    return {"added": 1}


def get_num_entries(call: Call) -> Doc:
    queue = queues.get(call, call.required("queue"))
    count = sa.select(sa.func.count()).select_from(ENTRY).where(ENTRY.c.queue == queue.id)
    return {"num": call.connection.execute(count).scalar_one()}


def create(call: Call) -> Doc:
    name = call.required("name", at_least=SHORTEST_NAME, at_most=255)
    return {"id": queues.create(call, name, call.texts("tags"), call.texts("system_tags"))}


def update(call: Call) -> Doc:
    row = queues.get(call, call.required("queue"))
    fields: dict[str, Any] = {kind: call.texts(kind) for kind in ("tags", "system_tags") if call.has(kind)}
    name = call.required("name", at_least=SHORTEST_NAME, at_most=255) if call.has("name") else row.name
    other = queues.by_name(call, name)
    if other is not None and other.id != row.id:
        raise not_unique("name", name)
    values = {"doc": dump({**load(row.doc), **fields}), "name": name, "last_update": call.now}
    call.connection.execute(sa.update(QUEUE).where(QUEUE.c.id == row.id).values(values))
    return {"fields": {**({"name": name} if call.has("name") else {}), **fields}, "updated": 1}


def delete(call: Call) -> Doc:
    """Leaves a tombstone. With force, what waits goes back to the status that it had before it was enqueued."""
    row = queues.get(call, call.required("queue"))
    if waiting.order(call, row.id) and not call.flag("force"):
        raise queue_not_empty(row.id)
    _send_back(call, row.id)
    call.connection.execute(sa.update(QUEUE).where(QUEUE.c.id == row.id).values(deleted=call.now))
    return {"deleted": 1}


def clear_queue(call: Call) -> Doc:
    row = queues.get(call, call.required("queue"))
    return {"removed_tasks": _send_back(call, row.id)}


def _send_back(call: Call, queue: str) -> list[str]:
    order = waiting.order(call, queue)
    for task in order:
        row = call.connection.execute(sa.select(TASK).where(TASK.c.id == task).with_for_update()).one()
        tasks.change_status(call, row, row.enqueue_status or status.CREATED, force=True, enqueue_status=None)
    return order


def _move(call: Call, to: str) -> Doc:
    queue, task = queues.get(call, call.required("queue")).id, call.required("task")
    order = waiting.order(call, queue)
    if task not in order:
        raise not_in_queue(task, queue)
    at, count = order.index(task), max(call.number("count", 1), 0)
    position = {"front": 0, "back": len(order) - 1, "forward": at - count, "backward": at + count}[to]
    position = min(max(position, 0), len(order) - 1)
    order.insert(position, order.pop(at))
    waiting.reorder(call, queue, order)
    return {"position": position}


def add_or_update_metadata(call: Call) -> Doc:
    """Free-form notes on a queue: a list of {key, type, value}."""
    row = queues.get(call, call.required("queue"))
    doc = load(row.doc)
    old = {} if call.flag("replace_metadata") else doc.get("metadata") or {}
    new = {str(item.get("key")): item for item in call.mappings("metadata")}
    doc["metadata"] = {**old, **new}
    call.connection.execute(sa.update(QUEUE).where(QUEUE.c.id == row.id).values(doc=dump(doc)))
    return {"updated": 1}


ENDPOINTS = {
    "queues.get_all": reads(get_all),
    "queues.get_by_id": reads(get_by_id),
    "queues.get_default": reads(get_default),
    "queues.get_next_task": writes(get_next_task),
    "queues.peek_task": reads(peek_task),
    "queues.remove_task": writes(remove_task),
    "queues.add_task": writes(add_task),
    "queues.get_num_entries": reads(get_num_entries),
    "queues.create": writes(create),
    "queues.update": writes(update),
    "queues.delete": writes(delete),
    "queues.clear_queue": writes(clear_queue),
    "queues.add_or_update_metadata": writes(add_or_update_metadata),
    "queues.move_task_forward": writes(lambda call: _move(call, "forward")),
    "queues.move_task_backward": writes(lambda call: _move(call, "backward")),
    "queues.move_task_to_front": writes(lambda call: _move(call, "front")),
    "queues.move_task_to_back": writes(lambda call: _move(call, "back")),
}
