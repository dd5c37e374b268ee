"""projects.*: names for groups of tasks."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from fleet.server import projects
from fleet.server.call import Call, reads, writes
from fleet.server.filters import query_of
from fleet.server.records import Doc, dump, load
from fleet.server.refusal import Refusal, not_unique
from fleet.server.tables import MODEL, PROJECT, TASK

SHORTEST_NAME = 3
_FIELDS = ("description", "default_output_destination")


def create(call: Call) -> Doc:
    name = call.required("name", at_least=SHORTEST_NAME)
    if _by_name(call, name) is not None:
        raise not_unique("name", name)
    return {"id": projects.ensure(call, name, _fields(call))}


def get_all(call: Call) -> Doc:
    query = query_of(call)
    rows = call.connection.execute(sa.select(PROJECT).order_by(PROJECT.c.created)).all()
    docs = projects.as_docs(call, rows)
    if not call.flag("search_hidden") and query.ids is None and query.exact_name is None:
        docs = [d for d in docs if "hidden" not in d["system_tags"]]
    if call.flag("shallow_search"):
        docs = [d for d in docs if "/" not in d["name"]]
    return {"projects": query.select(docs)}


def get_all_ex(call: Call) -> Doc:
    """As get_all; with include_stats how many tasks of each project have which status."""
    data = get_all(call)
    if not call.flag("include_stats"):
        return data
    counts: dict[str, dict[str, int]] = {}
    query = sa.select(TASK.c.project, TASK.c.status, sa.func.count().label("n")).group_by(TASK.c.project, TASK.c.status)
    for row in call.connection.execute(query):
        counts.setdefault(row.project, {})[row.status] = row.n
    for project in data["projects"]:
        by_status = counts.get(project.get("id"), {})
        project["stats"] = {"active": {"status_count": by_status, "total_tasks": sum(by_status.values())}}
    return data


def get_by_id(call: Call) -> Doc:
    row = projects.get(call, call.required("project"))
    return {"project": {**projects.as_docs(call, [row])[0], "path": _parents(call, row.name)}}


def _parents(call: Call, name: str) -> list[str]:
    parts = name.split("/")[:-1]
    names = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    found = {r.name: r.id for r in call.connection.execute(sa.select(PROJECT).where(PROJECT.c.name.in_(names)))}
    return [found[n] for n in names if n in found]


def update(call: Call) -> Doc:
    row = projects.get(call, call.required("project"))
    fields = _fields(call)
    columns: dict[str, Any] = {"last_update": call.now}
    if call.has("name"):
        columns["name"] = call.required("name", at_least=SHORTEST_NAME)
        other = _by_name(call, columns["name"])
        if other not in (None, row.id):
            raise not_unique("name", columns["name"])
    values = {"doc": dump({**load(row.doc), **fields}), **columns}
    call.connection.execute(sa.update(PROJECT).where(PROJECT.c.id == row.id).values(values))
    return {"fields": {**fields, **columns}, "updated": 1}


def delete(call: Call) -> Doc:
    """An empty one; with force its tasks and models are left without a project."""
    row = projects.get(call, call.required("project"))
    used = sa.select(sa.func.count()).select_from(TASK).where(TASK.c.project == row.id)
    count = call.connection.execute(used).scalar_one()
    if count and not call.flag("force"):
        raise Refusal(400, 402, f"Project has associated tasks: id={row.id}, tasks={count}; use force")
    for table in (TASK, MODEL):
        call.connection.execute(sa.update(table).where(table.c.project == row.id).values(project=None))
    call.connection.execute(sa.delete(PROJECT).where(PROJECT.c.id == row.id))
    return {"deleted": 1, "disassociated_tasks": count, "deleted_models": 0, "deleted_tasks": 0, "urls": None}


def _by_name(call: Call, name: str) -> str | None:
    found: str | None = call.connection.execute(sa.select(PROJECT.c.id).where(PROJECT.c.name == name)).scalar()
    return found


def _fields(call: Call) -> Doc:
    fields: Doc = {name: call.text(name) for name in _FIELDS if call.has(name)}
    return fields | {kind: call.texts(kind) for kind in ("tags", "system_tags") if call.has(kind)}


ENDPOINTS = {
    "projects.create": writes(create),
    "projects.get_all": reads(get_all),
    "projects.get_all_ex": reads(get_all_ex),
    "projects.get_by_id": reads(get_by_id),
    "projects.update": writes(update),
    "projects.delete": writes(delete),
}
