"""The way back into the queues: tasks that somebody claimed and will not finish.

A task whose machine is gone is *in progress* (it was running) or *queued in no queue* (claimed, never started). Both go back to
the head. What its user chose in the meantime stays: completed, failed, stopped, published, closed, or reset.
"""

from __future__ import annotations

from collections.abc import Sequence

from fleet.errors import ServerRefused
from fleet.model import Queue
from fleet.queues.base import OURS, TaskState, TaskStatus
from fleet.queues.demand import held_by_id
from fleet.queues.directory import Directory
from fleet.queues.tasks import ABORT_CALLBACK, RESUMES, Record, queued, records, resumes_of
from fleet.queues.transport import Transport

NO_SUCH_ENDPOINT = 404
WRONG_STATUS, NOT_IN_QUEUE, ALREADY_QUEUED = 110, 703, 706


class Returns:
    """Finds lost tasks and puts tasks back."""

    def __init__(self, transport: Transport, directory: Directory) -> None:
        self._transport = transport
        self._directory = directory

    def lost(self, queues: Sequence[Queue]) -> tuple[TaskState, ...]:
        """As `Demand.lost`. A task that was claimed a moment ago looks the same: act on those that stay in the answer."""
        ids = set(self._directory.ids(queue.name for queue in queues).values())
        if not ids:
            return ()
        # Tasks first, queues second: one that is enqueued in between is then found in its queue.
        ours = [record.state for record in queued(self._transport) if record.state.queue_id in ids]
        if not ours:
            return ()
        held = self._held(sorted(ids))
        suspects = [state.id for state in ours if state.id not in held]
        # Asked again: one that was claimed and started in between is no longer queued.
        now = records(self._transport, suspects) if suspects else {}
        return tuple(record.state for record in now.values() if record.state.status is TaskStatus.QUEUED)

    def put_back(self, task: str, queue: str, why: str) -> None:
        """As `Demand.put_back`. May be repeated at any point: it goes on from what it finds."""
        record = records(self._transport, [task]).get(task)
        if record is None:
            return  # deleted by its user
        status = record.state.status
        if record.is_asked_to_stop:
            self._stop(task, "stopped by its user; its machine ended meanwhile")
        elif status in (TaskStatus.IN_PROGRESS, TaskStatus.UNKNOWN):
            self._directory.id(queue)  # if there is no such queue, the task stays as it is
            self._stop(task, f"{OURS}: {why}")
            self._enqueue(task, queue, why)
        elif status is TaskStatus.STOPPED and record.state.status_reason.startswith(OURS):
            self._enqueue(task, queue, why)
        elif status is TaskStatus.QUEUED:
            self._lift(record, queue, why)

    def ask_to_save(self, task: str, why: str) -> None:
        """As `Claims.ask_to_save`."""
        body = {"task": task, "force": False, "status_reason": f"{OURS}: {why}"}
        # A wish whose answer was lost is told by SIGTERM too. Repeated, it may come when the task runs elsewhere, and end that.
        self._transport.call("tasks.stop", body, may_repeat=False)

    def mark_resumable(self, task: str) -> None:
        """As `Claims.mark_resumable`. In the task's runtime properties: a reset forgets them, and nothing else does."""
        body = {"id": [task], "only_fields": ["id", "runtime"], "search_hidden": True}
        for found in self._transport.call("tasks.get_all", body).objects("tasks"):
            runtime = dict(found.object("runtime").data)
            runtime = {key: value for key, value in runtime.items() if key not in ABORT_CALLBACK}
            runtime[RESUMES] = resumes_of(runtime) + 1
            self._transport.call("tasks.edit", {"task": task, "runtime": runtime, "force": True})

    def return_popped(self, task: str, queue_id: str) -> None:
        """Back to the head of the queue that it was popped from a moment ago, by mistake."""
        self._add(task, queue_id, "popped by mistake")
        self._to_front(task, queue_id)

    def _lift(self, record: Record, queue: str, why: str) -> None:
        """A queued task: to the head of `queue`, unless its user moved it into another one."""
        task, theirs = record.state.id, record.state.queue_id
        ours = self._directory.id(queue)
        if task not in self._held([ours]):
            if theirs not in (None, ours) and task in self._held([str(theirs)]):
                return
            self._directory.with_id(queue, lambda id_: self._add(task, id_, why))
        self._directory.with_id(queue, lambda id_: self._to_front(task, id_))

    def _add(self, task: str, queue_id: str, why: str) -> None:
        """Into the queue without a change of status: no moment at which the task is in no hands at all."""
        try:
            self._transport.call("queues.add_task", {"queue": queue_id, "task": task})
        except ServerRefused as error:
            if error.subcode == ALREADY_QUEUED:
                return
            if error.code != NO_SUCH_ENDPOINT:
                raise
            self._stop(task, f"{OURS}: {why}")
            self._enqueue_by_id(task, queue_id, why)

    def _enqueue(self, task: str, queue: str, why: str) -> None:
        self._directory.with_id(queue, lambda id_: self._enqueue_by_id(task, id_, why))
        self._directory.with_id(queue, lambda id_: self._to_front(task, id_))

    def _enqueue_by_id(self, task: str, queue_id: str, why: str) -> None:
        body = {"queue": queue_id, "task": task, "verify_watched_queue": False, "status_reason": f"{OURS}: {why}"}
        try:
            self._transport.call("tasks.enqueue", body)
        except ServerRefused as error:
            # Queued already: the answer to our first try was lost, or its user was quicker.
            if error.subcode not in (ALREADY_QUEUED, WRONG_STATUS):
                raise

    def _to_front(self, task: str, queue_id: str) -> None:
        try:
            self._transport.call("queues.move_task_to_front", {"queue": queue_id, "task": task})
        except ServerRefused as error:
            if error.subcode != NOT_IN_QUEUE:  # somebody has claimed it already: even better
                raise

    def _stop(self, task: str, why: str) -> None:
        self._transport.call("tasks.stopped", {"task": task, "force": True, "status_reason": why, "status_message": ""})

    def _held(self, queue_ids: Sequence[str]) -> set[str]:
        held = held_by_id(self._transport, queue_ids)
        return {entry.text("task") for each in held.values() for entry in each.entries}
