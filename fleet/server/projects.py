"""Projects as rows. A name with slashes is a path; its parents are made with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from fleet.server.call import Call
from fleet.server.records import Doc, dump, load, new_id
from fleet.server.refusal import no_project
from fleet.server.tables import PROJECT

_NEW: Doc = {"description": "", "tags": [], "system_tags": [], "default_output_destination": None}


def ensure(call: Call, name: str, fields: Mapping[str, Any] | None = None) -> str:
    """The id of the project of that name; made if it is missing, with its parents."""
    missing: list[str] = []
    above, project = name, _id_of(call, name)
    while project is None:
        missing.append(above)
        above = above.rpartition("/")[0]
        if not above or _id_of(call, above) is not None:
            break
    for each in reversed(missing):
        project = new_id()
        doc = {**_NEW, "user": call.identity.user, **((fields or {}) if each == name else {})}
        row = {"id": project, "name": each, "created": call.now, "last_update": call.now, "doc": dump(doc)}
        call.connection.execute(sa.insert(PROJECT), row)
    assert project is not None
    return project


def _id_of(call: Call, name: str) -> str | None:
    found: str | None = call.connection.execute(sa.select(PROJECT.c.id).where(PROJECT.c.name == name)).scalar()
    return found


def get(call: Call, project: str) -> sa.Row[Any]:
    row = call.connection.execute(sa.select(PROJECT).where(PROJECT.c.id == project)).first()
    if row is None:
        raise no_project(f"{project}, company={call.identity.company}")
    return row


def known(call: Call, project: str) -> str:
    """`project`, if there is one of that id."""
    return str(get(call, project).id)


def as_docs(call: Call, rows: Sequence[sa.Row[Any]]) -> list[Doc]:
    docs = []
    for row in rows:
        doc = {k: v for k, v in load(row.doc).items() if v is not None}
        doc |= {"id": row.id, "name": row.name, "basename": row.name.rpartition("/")[2]}
        doc |= {"company": call.identity.company, "created": row.created, "last_update": row.last_update}
        docs.append(doc)
    return docs
