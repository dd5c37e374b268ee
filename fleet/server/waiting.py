"""What waits in the queues: entries, claims under a lease, and tasks held back until their old worker lets go.

    entry --pop or remove--> claim --tasks.started--> (in progress)
      ^                        |
      +---- head, at `until` --+   the answer was lost, or the claimer died

A queue's order is its ranks, lowest first. A task that comes back goes to the head.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from fleet.server.call import Call
from fleet.server.records import iso
from fleet.server.tables import CLAIM, ENTRY, QUEUE, TASK, WORKER


def append(call: Call, queue: str, task: str) -> None:
    """To the tail. A task that a worker still reports as its own is held back, so that two copies never run."""
    tail = sa.select(sa.func.coalesce(sa.func.max(ENTRY.c.rank), 0)).where(ENTRY.c.queue == queue)
    rank = int(call.connection.execute(tail).scalar_one()) + 1
    held_until = None
    if _is_on_a_worker(call, task):
        held_until = iso(call.at + call.settings.hold_back)
        call.due.append(call.at + call.settings.hold_back)
    row = {"task": task, "queue": queue, "rank": rank, "added": call.now, "held_until": held_until}
    call.connection.execute(sa.insert(ENTRY), row)
    _touch(call, queue)
    if held_until is None:
        hint(call, queue)


def available(call: Call, queue: str, task: str | None = None) -> sa.Row[Any] | None:
    """The first entry that may be given away, or the one of `task` if it may; locked for this transaction."""
    restore_expired(call, queue)
    on_a_worker = sa.exists().where(WORKER.c.task == ENTRY.c.task, WORKER.c.expires > call.now)
    is_free = sa.or_(ENTRY.c.held_until.is_(None), ENTRY.c.held_until <= call.now, ~on_a_worker)
    query = sa.select(ENTRY).where(ENTRY.c.queue == queue, is_free).order_by(ENTRY.c.rank).limit(1)
    if task is not None:
        query = query.where(ENTRY.c.task == task)
    return call.connection.execute(query.with_for_update(skip_locked=True)).first()


def claim(call: Call, entry: sa.Row[Any]) -> bool:
    """Take an entry out of its queue, under a lease. False: somebody else was faster."""
    taken = call.connection.execute(sa.delete(ENTRY).where(ENTRY.c.task == entry.task, ENTRY.c.queue == entry.queue))
    if taken.rowcount != 1:
        return False
    until = call.at + call.settings.lease
    row = {"task": entry.task, "queue": entry.queue, "added": entry.added, "claimed": call.now, "until": iso(until)}
    call.connection.execute(sa.insert(CLAIM), row)
    call.due.append(until)
    _touch(call, entry.queue)
    return True


def restore_expired(call: Call, queue: str | None = None) -> int:
    """Claims past their lease go back to the heads of their queues, first claimed first; how many."""
    query = sa.select(CLAIM).where(CLAIM.c.until <= call.now).order_by(CLAIM.c.claimed.desc())
    if queue is not None:
        query = query.where(CLAIM.c.queue == queue)
    rows = call.connection.execute(query.with_for_update(skip_locked=True)).all()
    for row in rows:
        call.connection.execute(sa.delete(CLAIM).where(CLAIM.c.task == row.task))
        still = sa.select(TASK.c.id).where(TASK.c.id == row.task, TASK.c.status == "queued")
        gone = sa.select(QUEUE.c.id).where(QUEUE.c.id == row.queue, QUEUE.c.deleted.is_(None))
        if call.connection.execute(still).first() and call.connection.execute(gone).first():
            values = {"task": row.task, "queue": row.queue, "rank": head_rank(call, row.queue), "added": row.added}
            call.connection.execute(sa.insert(ENTRY), values)
            hint(call, row.queue)
    return len(rows)


def head_rank(call: Call, queue: str) -> int:
    """A rank before all others of the queue."""
    head = sa.select(sa.func.coalesce(sa.func.min(ENTRY.c.rank), 0)).where(ENTRY.c.queue == queue)
    return int(call.connection.execute(head).scalar_one()) - 1


def entries(call: Call, queues: list[str], limit: int | None = None) -> dict[str, list[dict[str, str]]]:
    """What waits, by queue, heads first; held ones too."""
    found: dict[str, list[dict[str, str]]] = {queue: [] for queue in queues}
    query = sa.select(ENTRY.c.queue, ENTRY.c.task, ENTRY.c.added).where(ENTRY.c.queue.in_(queues))
    for row in call.connection.execute(query.order_by(ENTRY.c.queue, ENTRY.c.rank)):
        if limit is None or len(found[row.queue]) < limit:
            found[row.queue].append({"task": row.task, "added": row.added})
    return found


def order(call: Call, queue: str) -> list[str]:
    """The waiting tasks of a queue, head first; the rows are locked."""
    query = sa.select(ENTRY.c.task).where(ENTRY.c.queue == queue).order_by(ENTRY.c.rank).with_for_update()
    return list(call.connection.execute(query).scalars())


def reorder(call: Call, queue: str, tasks: list[str]) -> None:
    for rank, task in enumerate(tasks):
        call.connection.execute(sa.update(ENTRY).where(ENTRY.c.task == task).values(rank=rank))
    _touch(call, queue)


def release(call: Call, task: str) -> None:
    """A worker let go of `task`: if it waits and was held back for that, it is available now."""
    held = sa.select(ENTRY.c.queue).where(ENTRY.c.task == task, ENTRY.c.held_until > call.now)
    queue = call.connection.execute(held).scalar()
    if queue is not None and not _is_on_a_worker(call, task):
        call.connection.execute(sa.update(ENTRY).where(ENTRY.c.task == task).values(held_until=None))
        hint(call, queue)


def release_held(call: Call) -> None:
    """Tasks that were held back long enough are available now."""
    over = sa.select(ENTRY.c.task, ENTRY.c.queue).where(ENTRY.c.held_until <= call.now).with_for_update()
    for row in call.connection.execute(over).all():
        call.connection.execute(sa.update(ENTRY).where(ENTRY.c.task == row.task).values(held_until=None))
        hint(call, row.queue)


def hint(call: Call, queue: str) -> None:
    """After the commit, whoever listens is told that a task became available in this queue."""
    name = call.connection.execute(sa.select(QUEUE.c.name).where(QUEUE.c.id == queue)).scalar()
    if name is not None:
        call.hints.add(name)


def _is_on_a_worker(call: Call, task: str) -> bool:
    query = sa.select(WORKER.c.id).where(WORKER.c.task == task, WORKER.c.expires > call.now).limit(1)
    return call.connection.execute(query).first() is not None


def _touch(call: Call, queue: str) -> None:
    call.connection.execute(sa.update(QUEUE).where(QUEUE.c.id == queue).values(last_update=call.now))


def renew_claims(connection: sa.Connection, until: str) -> None:
    """All claims hold until then."""
    connection.execute(sa.update(CLAIM).values(until=until))
