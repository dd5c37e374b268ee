"""Tasks as rows: made, read, changed. One row holds a task; `as_doc` is the object that the API answers.

A status changes by compare-and-set; a task that is no longer queued is in no queue and under no claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleet.server import status
from fleet.server.call import Call
from fleet.server.records import Doc, dump, load, new_id
from fleet.server.refusal import invalid, lost_race, no_task, wrong_status
from fleet.server.tables import CLAIM, ENTRY, TASK, TASK_TAG

SHORTEST_NAME = 3  # characters, as the server has it that the clients know
TAGS = ("tags", "system_tags")
DOC_FIELDS: dict[str, tuple[type, Any]] = {  # what a client may set, its kind, and its value in a new task
    "comment": (str, ""),
    "output_dest": (str, None),
    "tags": (list, []),
    "system_tags": (list, []),
    "script": (dict, {"binary": "python", "repository": "", "entry_point": "", "requirements": {}}),
    "execution": (dict, {"test_split": 0, "parameters": {}, "model_desc": {}, "model_labels": {}, "artifacts": []}),
    "hyperparams": (dict, {}),
    "configuration": (dict, {}),
    "runtime": (dict, {}),
    "container": (dict, {}),
    "models": (dict, {"input": [], "output": []}),
}
_OBJECTS_BELOW = {"hyperparams": 2, "configuration": 1}  # sections of parameters; configurations
_LISTS_IN = {"execution": ("artifacts",), "models": ("input", "output")}
_MERGED = ("script", "execution", "models")  # set field by field; all others as a whole
_ALWAYS: Doc = {"output": {}, "report_assets": [], "unique_metrics": [], "metric_stats": {}}
_COLUMNS = (
    *("id", "name", "type", "status", "status_reason", "status_message", "status_changed", "created", "started"),
    *("completed", "published", "parent", "project", "user", "enqueue_status", "last_update", "last_worker"),
    *("last_worker_report", "last_iteration"),
)

_ONE = sa.select(TASK).where(TASK.c.id == sa.bindparam("task_id"))
_LOCKED = _ONE.with_for_update()
_UPDATE = sa.update(TASK).where(TASK.c.id == sa.bindparam("task_id"))
_COMPARE_AND_SET = _UPDATE.where(TASK.c.status == sa.bindparam("old_status"))
_LEAVE = sa.delete(ENTRY).where(ENTRY.c.task == sa.bindparam("task_id"))
_END_CLAIM = sa.delete(CLAIM).where(CLAIM.c.task == sa.bindparam("task_id"))


def as_doc(row: sa.Row[Any], company: str, now: datetime | None = None) -> Doc:
    """The task as the API shows it: what is not known is left out, what a client must not get as null is there."""
    doc: Doc = load(row.doc)
    mapping = row._mapping
    for column in _COLUMNS:
        value = mapping[column]
        if value is not None:
            doc[column] = value
    doc["company"] = company
    doc["last_change"] = row.last_update
    doc["last_changed_by"] = row.user
    doc["last_metrics"] = load(row.metrics)
    if row.queue:
        doc["execution"]["queue"] = row.queue
    if row.started:
        end = datetime.fromisoformat(row.completed) if row.completed else now
        if end is not None:
            doc["active_duration"] = max(int((end - datetime.fromisoformat(row.started)).total_seconds()), 0)
    return doc


def get(call: Call, task: str) -> sa.Row[Any]:
    """The row of a task; in a writing call it is locked until the end of the transaction.

    Raises:
        Refusal: 400/101, there is no such task.
    """
    row = call.connection.execute(_LOCKED if call.is_writing else _ONE, {"task_id": task}).first()
    if row is None:
        raise no_task(task)
    return row


def checked_fields(call: Call) -> Doc:
    """The document fields of a call, each of its kind: one of a wrong kind would make the whole task unreadable.

    Raises:
        Refusal: 400/800.
    """
    fields: Doc = {}
    for name, (kind, _) in DOC_FIELDS.items():
        if not call.has(name):
            continue
        value = call.texts(name) if kind is list else call.fields[name]
        if not isinstance(value, kind):
            raise invalid(name, f"expected {'an object' if kind is dict else 'a string'}")
        check_inside(name, value)
        fields[name] = value
    return fields


def check_inside(name: str, value: Any) -> None:
    """One of the document fields, as deep as other calls walk through it: one task must not break whoever reads all that wait.

    Raises:
        Refusal: 400/800.
    """
    depth = _OBJECTS_BELOW.get(name, 0)
    level = [value]
    for _ in range(depth):
        level = [item for each in level for item in each.values()]
        if not all(isinstance(item, dict) for item in level):
            raise invalid(name, f"expected objects, {depth} deep")
    for key in _LISTS_IN.get(name, ()):
        items = value.get(key)
        if items is not None and not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
            raise invalid(f"{name}.{key}", "expected a list of objects")


def create(call: Call, name: str, fields: Mapping[str, Any], **columns: str | None) -> str:
    """A new task with status created; its id. `fields` are document fields over the defaults."""
    task = new_id()
    doc = _merged({name: default for name, (_, default) in DOC_FIELDS.items() if default is not None}, fields)
    row = {
        "id": task,
        "name": name,
        "type": "training",
        "user": call.identity.user,
        "status": status.CREATED,
        "status_reason": "",
        "status_message": "",
        "created": call.now,
        "last_update": call.now,
        "last_iteration": 0,
        "metrics": "{}",
        "doc": dump({**_ALWAYS, **doc}),
        **columns,
    }
    call.connection.execute(sa.insert(TASK), row)
    _save_tags(call, task, doc)
    return task


def edit(call: Call, row: sa.Row[Any], fields: Mapping[str, Any], **columns: Any) -> Doc:
    """Set document fields and columns; returns the document fields as they are now."""
    values: dict[str, Any] = {"last_update": call.now, **columns}
    doc: Doc = load(row.doc)
    if fields:
        doc = _merged(doc, fields)
        values["doc"] = dump(doc)
    call.connection.execute(_UPDATE, {"task_id": row.id, **values})
    if any(kind in fields for kind in TAGS):
        _save_tags(call, row.id, doc)
    return {name: doc.get(name) for name in fields}


def touch(call: Call, task: str, **columns: Any) -> bool:
    """A sign of life: the watchdog counts from here. False: there is no such task."""
    values = {"last_update": call.now, **columns}
    return call.connection.execute(_UPDATE, {"task_id": task, **values}).rowcount > 0


def change_status(call: Call, row: sa.Row[Any], new: str, *, force: bool = False, **columns: Any) -> Doc:
    """Compare-and-set the status; returns what was set, as the API answers it.

    Raises:
        Refusal: 400/110, not from here; 400/121, somebody changed it meanwhile.
    """
    if not status.may_become(row.status, new, force):
        raise wrong_status(row.status, new)
    fields: Doc = {
        "status": new,
        "status_reason": call.text("status_reason"),
        "status_message": call.text("status_message"),
        "status_changed": call.now,
        "last_update": call.now,
        **columns,
    }
    done = call.connection.execute(_COMPARE_AND_SET, {"task_id": row.id, "old_status": row.status, **fields})
    if done.rowcount != 1:
        raise lost_race(row.id, row.status)
    if new != status.QUEUED:
        leave_queue(call, row.id)
    return {**fields, "last_change": call.now, "last_changed_by": call.identity.user}


def leave_queue(call: Call, task: str) -> bool:
    """Out of its queue and from under its claim. True: it waited, or was claimed and had not started."""
    entries = call.connection.execute(_LEAVE, {"task_id": task}).rowcount
    claims = call.connection.execute(_END_CLAIM, {"task_id": task}).rowcount
    return entries + claims > 0


def _merged(doc: Mapping[str, Any], fields: Mapping[str, Any]) -> Doc:
    merged = dict(doc)
    for name, value in fields.items():
        merged[name] = {**(doc.get(name) or {}), **value} if name in _MERGED else value
    return merged


def _save_tags(call: Call, task: str, doc: Mapping[str, Any]) -> None:
    call.connection.execute(sa.delete(TASK_TAG).where(TASK_TAG.c.task == task))
    rows = [
        {"task": task, "kind": kind, "tag": tag}
        for kind in TAGS
        for tag in dict.fromkeys(t[:255] for t in _strings(doc.get(kind)))
    ]
    if rows:
        call.connection.execute(sa.insert(TASK_TAG), rows)


def _strings(values: Sequence[Any] | None) -> list[str]:
    return [v for v in values or () if isinstance(v, str)]
