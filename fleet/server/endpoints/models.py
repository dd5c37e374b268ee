"""models.*: what tasks trained, by name and uri. The files themselves lie wherever `uri` says."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from fleet.server.call import Call, reads, writes
from fleet.server.filters import query_of
from fleet.server.records import Doc, dump, load, new_id
from fleet.server.refusal import invalid, no_model
from fleet.server.tables import MODEL

_TEXTS = ("comment", "framework", "uri", "parent")
_OBJECTS = ("design", "labels", "ui_cache")
_NEW: Doc = {
    "tags": [],
    "system_tags": [],
    "design": {},
    "labels": {},
    "metadata": {},
    "ready": True,
    "last_iteration": 0,
}


def create(call: Call) -> Doc:
    fields = _fields(call)
    call.required("uri")
    model = new_id()
    doc = {**_NEW, "user": call.identity.user, "last_metrics": {}, **fields}
    row = {"id": model, "name": call.required("name", at_least=3), "doc": dump(doc), **_columns(call)}
    call.connection.execute(sa.insert(MODEL), {**row, "created": call.now, "last_update": call.now})
    return {"created": True, "id": model}


def edit(call: Call) -> Doc:
    row = _get(call)
    fields = _fields(call)
    columns = _columns(call)
    if call.has("name"):
        columns["name"] = call.required("name", at_least=3)
    values = {**columns, "doc": dump({**load(row.doc), **fields}), "last_update": call.now}
    call.connection.execute(sa.update(MODEL).where(MODEL.c.id == row.id).values(values))
    times = {"last_change": call.now, "last_changed_by": call.identity.user, "last_update": call.now}
    return {"fields": {**columns, "ui_cache": {}, **fields, **times}, "updated": 1}


def get_by_id(call: Call) -> Doc:
    return {"model": _as_doc(call, _get(call))}


def get_all(call: Call) -> Doc:
    query = query_of(call)
    rows = sa.select(MODEL).order_by(MODEL.c.created)
    for field, column in (("project", MODEL.c.project), ("task", MODEL.c.task)):
        if call.has(field):
            rows = rows.where(column.in_(call.texts(field)))
    docs = [_as_doc(call, row) for row in call.connection.execute(rows)]
    for field in ("framework", "uri", "user"):
        if call.has(field):
            docs = [d for d in docs if d.get(field) in call.texts(field)]
    if call.has("ready"):
        docs = [d for d in docs if d["ready"] == call.flag("ready")]
    return {"models": query.select(docs)}


def set_ready(call: Call) -> Doc:
    row = _get(call)
    doc = dump({**load(row.doc), "ready": True})
    call.connection.execute(sa.update(MODEL).where(MODEL.c.id == row.id).values(doc=doc, last_update=call.now))
    return {"updated": 1, "published_task": {}}


def delete(call: Call) -> Doc:
    row = _get(call)
    call.connection.execute(sa.delete(MODEL).where(MODEL.c.id == row.id))
    return {"deleted": True, "url": load(row.doc).get("uri")}


def add_or_update_metadata(call: Call) -> Doc:
    row = _get(call)
    doc = load(row.doc)
    old = {} if call.flag("replace_metadata") else doc["metadata"]
    doc["metadata"] = {**old, **_metadata(call)}
    call.connection.execute(sa.update(MODEL).where(MODEL.c.id == row.id).values(doc=dump(doc), last_update=call.now))
    return {"updated": 1}


def _get(call: Call) -> sa.Row[Any]:
    model = call.required("model")
    row = call.connection.execute(sa.select(MODEL).where(MODEL.c.id == model)).first()
    if row is None:
        raise no_model(model)
    return row


def _columns(call: Call) -> dict[str, Any]:
    return {name: call.text(name) or None for name in ("project", "task") if call.has(name)}


def _fields(call: Call) -> Doc:
    fields: Doc = {name: call.text(name) for name in _TEXTS if call.has(name)}
    fields |= {name: call.mapping(name) for name in _OBJECTS if call.has(name)}
    fields |= {kind: call.texts(kind) for kind in ("tags", "system_tags") if call.has(kind)}
    if call.has("ready"):
        fields["ready"] = call.flag("ready")
    if call.has("metadata"):
        fields["metadata"] = _metadata(call)
    return fields


def _metadata(call: Call) -> Doc:
    """By key; clients send a list of {key, type, value} or the same by key."""
    given = call.fields.get("metadata")
    if isinstance(given, dict):
        return given
    items = call.mappings("metadata")
    if not all(isinstance(item.get("key"), str) for item in items):
        raise invalid("metadata", "expected a list of {key, type, value}")
    return {item["key"]: item for item in items}


def _as_doc(call: Call, row: sa.Row[Any]) -> Doc:
    doc: Doc = {**load(row.doc), "id": row.id, "name": row.name, "company": call.identity.company}
    doc |= {"created": row.created, "last_update": row.last_update, "last_change": row.last_update}
    doc["last_changed_by"] = doc.get("user")
    return doc | {name: value for name, value in (("project", row.project), ("task", row.task)) if value}


ENDPOINTS = {
    "models.create": writes(create),
    "models.edit": writes(edit),
    "models.update": writes(edit),
    "models.get_by_id": reads(get_by_id),
    "models.get_all": reads(get_all),
    "models.set_ready": writes(set_ready),
    "models.delete": writes(delete),
    "models.add_or_update_metadata": writes(add_or_update_metadata),
}
