"""tasks.get_by_id and tasks.get_all: narrowed in SQL by what has a column, in memory by the rest."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from fleet.server import tasks
from fleet.server.call import Call, reads
from fleet.server.filters import Query, TagClause, query_of
from fleet.server.records import Doc, pick
from fleet.server.tables import TASK, TASK_TAG

# What a list in the call narrows, and the column.
_LISTS = {
    "status": TASK.c.status,
    "type": TASK.c.type,
    "project": TASK.c.project,
    "user": TASK.c.user,
    "execution.queue": TASK.c.queue,
    "queue": TASK.c.queue,
    "last_worker": TASK.c.last_worker,
}
_ORDERED = {
    column.name: column
    for column in (
        *(TASK.c.id, TASK.c.name, TASK.c.status, TASK.c.type, TASK.c.created, TASK.c.started, TASK.c.completed),
        *(TASK.c.last_update, TASK.c.status_changed, TASK.c.last_iteration, TASK.c.project),
    )
}
# Agents and the SDK poll for these alone: the document is not read for them, and the statement is made once.
_POLLED = ("id", "status", "status_message", "status_reason", "name", "last_update", "last_worker", "started")
_POLL = sa.select(*(TASK.c[name] for name in _POLLED)).where(TASK.c.id.in_(sa.bindparam("ids", expanding=True)))
_POLL = _POLL.order_by(TASK.c.created)
_OF_A_POLL = frozenset({"id", "only_fields", "search_hidden", "method"})


def get_by_id(call: Call) -> Doc:
    row = tasks.get(call, call.required("task"))
    return {"task": tasks.as_doc(row, call.identity.company, call.at)}


def get_all(call: Call) -> Doc:
    query = query_of(call, order_by=(("created", False),))
    if (
        query.ids
        and query.only_fields
        and _OF_A_POLL.issuperset(call.fields)
        and set(query.only_fields) <= set(_POLLED)
    ):
        polled = [row._mapping for row in call.connection.execute(_POLL, {"ids": query.ids})]
        return {"tasks": [{f: row[f] for f in query.only_fields if row[f] is not None} for row in polled]}
    rows = _narrowed(sa.select(TASK), call, query)
    fits_sql = not query.patterns and all(field in _ORDERED for field, _ in query.order_by)
    if fits_sql:
        for field, descending in query.order_by:
            column = _ORDERED[field]
            rows = rows.order_by(column.desc().nulls_last() if descending else column.asc().nulls_first())
        if query.limit is not None:
            rows = rows.limit(query.limit).offset(query.offset)
    found = [tasks.as_doc(row, call.identity.company, call.at) for row in call.connection.execute(rows)]
    if not fits_sql:
        found = query.arranged([doc for doc in found if all(p.holds(doc) for p in query.patterns)])
    return {"tasks": [pick(doc, query.only_fields) for doc in found]}


def _narrowed(rows: sa.Select[Any], call: Call, query: Query) -> sa.Select[Any]:
    if query.ids is not None:
        rows = rows.where(TASK.c.id.in_(query.ids))
    if query.exact_name is not None:
        rows = rows.where(TASK.c.name == query.exact_name)
    for field, column in _LISTS.items():
        if call.has(field):
            rows = rows.where(column.in_(call.texts(field)))
    if call.has("parent"):
        rows = rows.where(TASK.c.parent.in_(call.texts("parent")))
    for bound in call.texts("status_changed"):
        rows = rows.where(_bounded(TASK.c.status_changed, bound))
    for kind, clauses in query.tags.items():
        for clause in clauses:
            rows = rows.where(_has_tag(kind, clause))
    return rows


def _bounded(column: sa.Column[str], bound: str) -> sa.ColumnElement[bool]:
    """A comparison as the API writes it: ">=2026-11-22T02:14:14"."""
    for sign, compare in ((">=", column.__ge__), ("<=", column.__le__), (">", column.__gt__), ("<", column.__lt__)):
        if bound.startswith(sign):
            return compare(bound.removeprefix(sign))
    return column == bound


def _has_tag(kind: str, clause: TagClause) -> sa.ColumnElement[bool]:
    alternatives = []
    for rule in clause:
        tagged = sa.exists().where(TASK_TAG.c.task == TASK.c.id, TASK_TAG.c.kind == kind)
        if rule.tag is None:  # "has no tag at all"
            alternatives.append(tagged if rule.negated else ~tagged)
        else:
            has = tagged.where(TASK_TAG.c.tag == rule.tag)
            alternatives.append(~has if rule.negated else has)
    return sa.or_(*alternatives)


ENDPOINTS = {
    "tasks.get_by_id": reads(get_by_id),
    "tasks.get_all": reads(get_all),
    "tasks.get_all_ex": reads(get_all),
}
