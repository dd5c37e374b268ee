"""What waits in the queues: entries, claims under a lease, and tasks held back until their old worker lets go.

    entry --pop or remove--> claim --tasks.started--> (in progress)
      ^                        |
      +---- head, at `until` --+   the answer was lost, or the claimer died

A queue's order is its ranks, lowest first. A task that comes back goes to the head. Statements that every poll of every
agent runs are made once, here: making them takes longer than running them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from fleet.server.call import Call
from fleet.server.records import iso
from fleet.server.tables import CLAIM, ENTRY, QUEUE, TASK, WORKER

_QUEUE: sa.BindParameter[str] = sa.bindparam("queue_id")
_TASK: sa.BindParameter[str] = sa.bindparam("task_id")
_NOW: sa.BindParameter[str] = sa.bindparam("now")
_ON_A_WORKER = sa.exists().where(WORKER.c.task == ENTRY.c.task, WORKER.c.expires > _NOW)
_IS_FREE = sa.or_(ENTRY.c.held_until.is_(None), ENTRY.c.held_until <= _NOW, ~_ON_A_WORKER)
_FREE = sa.select(ENTRY).where(ENTRY.c.queue == _QUEUE, _IS_FREE)
_FIRST_FREE = _FREE.order_by(ENTRY.c.rank).limit(1).with_for_update(skip_locked=True)
_FREE_TASK = _FREE.where(ENTRY.c.task == _TASK).with_for_update(skip_locked=True)
_TAKE = sa.delete(ENTRY).where(ENTRY.c.task == _TASK, ENTRY.c.queue == _QUEUE)
_CLAIM = sa.insert(CLAIM)
_EXPIRED = sa.select(CLAIM).where(CLAIM.c.until <= _NOW).order_by(CLAIM.c.claimed.desc())
_EXPIRED = _EXPIRED.with_for_update(skip_locked=True)
_EXPIRED_OF_QUEUE = _EXPIRED.where(CLAIM.c.queue == _QUEUE)
_WORKER_ON = sa.select(WORKER.c.id).where(WORKER.c.task == _TASK, WORKER.c.expires > _NOW).limit(1)
_RENEW = sa.update(CLAIM).where(CLAIM.c.task == _TASK).values(until=sa.bindparam("lease_end"))
_TAIL = sa.select(sa.func.coalesce(sa.func.max(ENTRY.c.rank), 0)).where(ENTRY.c.queue == _QUEUE)
_HEAD = sa.select(sa.func.coalesce(sa.func.min(ENTRY.c.rank), 0)).where(ENTRY.c.queue == _QUEUE)
_UNQUEUE = sa.update(TASK).where(TASK.c.id == _TASK)
_UNQUEUE = _UNQUEUE.values(
    status=sa.func.coalesce(TASK.c.enqueue_status, "created"),
    enqueue_status=None,
    status_changed=_NOW,
    last_update=_NOW,
)
_NAME = sa.select(QUEUE.c.name).where(QUEUE.c.id == _QUEUE)
_TOUCH = sa.update(QUEUE).where(QUEUE.c.id == _QUEUE).values(last_update=_NOW)


def append(call: Call, queue: str, task: str) -> None:
    """To the tail. A task that a worker still reports as its own is held back, so that two copies never run."""
    rank = int(call.connection.execute(_TAIL, {"queue_id": queue}).scalar_one()) + 1
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
    given = {"queue_id": queue, "now": call.now}
    if task is None:
        return call.connection.execute(_FIRST_FREE, given).first()
    return call.connection.execute(_FREE_TASK, {**given, "task_id": task}).first()


def claim(call: Call, entry: sa.Row[Any]) -> bool:
    """Take an entry out of its queue, under a lease. False: somebody else was faster."""
    if call.connection.execute(_TAKE, {"task_id": entry.task, "queue_id": entry.queue}).rowcount != 1:
        return False
    until = call.at + call.settings.lease
    row = {"task": entry.task, "queue": entry.queue, "added": entry.added, "claimed": call.now, "until": iso(until)}
    call.connection.execute(_CLAIM, row)
    call.due.append(until)
    _touch(call, entry.queue)
    return True


def renew(call: Call, task: str) -> None:
    """Whoever claimed it says that it is still about to start it: the whole lease again."""
    until = call.at + call.settings.lease
    if call.connection.execute(_RENEW, {"task_id": task, "lease_end": iso(until)}).rowcount:
        call.due.append(until)


def restore_expired(call: Call, queue: str | None = None) -> int:
    """Claims past their lease go back to the heads of their queues, first claimed first; how many."""
    query, given = (_EXPIRED, {}) if queue is None else (_EXPIRED_OF_QUEUE, {"queue_id": queue})
    rows = call.connection.execute(query, {"now": call.now, **given}).all()
    for row in rows:
        call.connection.execute(sa.delete(CLAIM).where(CLAIM.c.task == row.task))
        is_queued = sa.select(TASK.c.id).where(TASK.c.id == row.task, TASK.c.status == "queued")
        is_there = sa.select(QUEUE.c.id).where(QUEUE.c.id == row.queue, QUEUE.c.deleted.is_(None))
        if not call.connection.execute(is_queued).first():
            continue
        if call.connection.execute(is_there).first():
            values = {"task": row.task, "queue": row.queue, "rank": head_rank(call, row.queue), "added": row.added}
            call.connection.execute(sa.insert(ENTRY), values)
            hint(call, row.queue)
        else:  # as those that waited when the queue was deleted; nobody would look for it where it was
            call.connection.execute(_UNQUEUE, {"task_id": row.task, "now": call.now})
    return len(rows)


def head_rank(call: Call, queue: str) -> int:
    """A rank before all others of the queue."""
    return int(call.connection.execute(_HEAD, {"queue_id": queue}).scalar_one()) - 1


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
    name = call.connection.execute(_NAME, {"queue_id": queue}).scalar()
    if name is not None:
        call.hints.add(name)


def _is_on_a_worker(call: Call, task: str) -> bool:
    return call.connection.execute(_WORKER_ON, {"task_id": task, "now": call.now}).first() is not None


def _touch(call: Call, queue: str) -> None:
    call.connection.execute(_TOUCH, {"queue_id": queue, "now": call.now})


def renew_claims(connection: sa.Connection, until: str) -> None:
    """All claims hold until then."""
    connection.execute(sa.update(CLAIM).values(until=until))
