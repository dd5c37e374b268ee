"""Queues as rows: made, found, shown. A deleted queue leaves a tombstone for the agents that still poll it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from fleet.server import waiting
from fleet.server.call import Call
from fleet.server.records import Doc, dump, load, new_id
from fleet.server.refusal import no_queue, not_unique
from fleet.server.tables import QUEUE

DEFAULT = "default"  # the queue of those who name none
# An agent that polls a queue which is gone must get it in its answer, or it crashes once a second for ever; told by this
# tag it pulls nothing from it.
TOMBSTONE_TAGS = ["force_workers:off"]


def create(call: Call, name: str, tags: Sequence[str] = (), system_tags: Sequence[str] = ()) -> str:
    """A new queue; its id.

    Raises:
        Refusal: 400/801, the name is taken.
    """
    if by_name(call, name) is not None:
        raise not_unique("name", name)
    queue = new_id()
    doc = {"tags": list(tags), "system_tags": list(system_tags), "metadata": {}, "user": call.identity.user}
    row = {"id": queue, "name": name, "created": call.now, "last_update": call.now, "doc": dump(doc)}
    call.connection.execute(sa.insert(QUEUE), row)
    return queue


def get(call: Call, queue: str) -> sa.Row[Any]:
    """The row of a living queue.

    Raises:
        Refusal: 400/701.
    """
    row = call.connection.execute(sa.select(QUEUE).where(QUEUE.c.id == queue, QUEUE.c.deleted.is_(None))).first()
    if row is None:
        raise no_queue(f"{queue}, company={call.identity.company}")
    return row


def by_name(call: Call, name: str) -> sa.Row[Any] | None:
    return call.connection.execute(sa.select(QUEUE).where(QUEUE.c.name == name, QUEUE.c.deleted.is_(None))).first()


def default(call: Call) -> sa.Row[Any] | None:
    """The queue tagged "default", or the one of that name."""
    rows = call.connection.execute(sa.select(QUEUE).where(QUEUE.c.deleted.is_(None)).order_by(QUEUE.c.created)).all()
    tagged = [row for row in rows if DEFAULT in load(row.doc)["system_tags"]]
    named = [row for row in rows if row.name == DEFAULT]
    return next(iter(tagged + named), None)


def as_docs(call: Call, rows: Sequence[sa.Row[Any]], with_entries: bool, limit: int | None = None) -> list[Doc]:
    """Queues as the API shows them. Tombstones are shown empty and switched off."""
    waits = waiting.entries(call, [row.id for row in rows], limit) if with_entries else {}
    docs = []
    for row in rows:
        shown = {**load(row.doc), "id": row.id, "name": row.name, "company": call.identity.company}
        shown |= {"created": row.created, "last_update": row.last_update}
        if with_entries:
            shown["entries"] = waits[row.id]
        if row.deleted is not None:
            shown |= {"tags": TOMBSTONE_TAGS, "entries": []}
        docs.append(shown)
    return docs
