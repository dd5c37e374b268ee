"""A ClearML API server, ours or anybody's, as the three contracts of `fleet.queues.base`."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime

from fleet.errors import ServerRefused, ServerUnreachable
from fleet.model import Queue, ServerAccess, Task
from fleet.queues.base import LogLine, Script, TaskContainer, TaskState
from fleet.queues.demand import WaitingList
from fleet.queues.desk import FrontDesk
from fleet.queues.directory import Directory
from fleet.queues.logs import packets
from fleet.queues.returns import NOT_IN_QUEUE, Returns
from fleet.queues.tasks import read_container, records
from fleet.queues.transport import PATIENCE_S, Transport

NO_SUCH_TASK = 101
UNKNOWN_WORKER = (1001, 1004)


class ClearMLServer:
    """Demand, Claims and Desk in one, over one set of connections. Safe to share between threads.

    `first_entries`: how many tasks of each queue `waiting` shows; a supervisor looks at a few, a dispatcher at all.
    `closing`: set it to cut waits short; `patience_s`: how long one call is repeated before it is given up.
    """

    def __init__(
        self,
        access: ServerAccess,
        *,
        first_entries: int | None = None,
        closing: threading.Event | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._transport = Transport(access, closing=closing, patience_s=patience_s)
        self._directory = Directory(self._transport)
        self._waiting = WaitingList(self._transport, self._directory, first_entries)
        self._returns = Returns(self._transport, self._directory)
        self._desk = FrontDesk(self._transport, self._directory)
        self._pops_any_head = False  # the server is older than API 2.21 and does not look at whom we want

    def close(self) -> None:
        """Close the connections; waits in other threads end at once."""
        self._transport.close()

    # --- queues

    def queue_names(self) -> tuple[str, ...]:
        """Of all queues that the server has."""
        return self._directory.names()

    def ensure_queues(self, names: Sequence[str]) -> Mapping[str, str]:
        return self._directory.ensure(names)

    def waiting(self, queues: Sequence[Queue], first: int | None = None) -> tuple[Task, ...]:
        return self._waiting.read(queues, first)

    def lost(self, queues: Sequence[Queue]) -> tuple[TaskState, ...]:
        return self._returns.lost(queues)

    def put_back(self, task: str, queue: str, why: str) -> None:
        self._returns.put_back(task, queue, why)

    def ask_to_save(self, task: str, why: str) -> None:
        self._returns.ask_to_save(task, why)

    def mark_resumable(self, task: str) -> None:
        self._returns.mark_resumable(task)

    def claim(self, task: Task) -> bool:
        """Take this very task. True for exactly one of all who try.

        Raises:
            ServerUnreachable: the answer was lost, and nobody knows whether the task was taken. Do not run it: if it was, it is
                now queued in no queue, and `lost` finds it there. So a claim can be lost, but never counted twice.
        """
        try:
            return self._directory.with_id(task.queue, lambda id_: self._claim(task, id_))
        except ServerRefused as error:
            if error.subcode in (NOT_IN_QUEUE, NO_SUCH_TASK):
                return False
            raise

    def _claim(self, task: Task, queue_id: str) -> bool:
        wanted = {"queue": queue_id, "task": task.id}
        if task.position == 0 and not self._pops_any_head:
            popped = self._transport.call("queues.get_next_task", wanted, may_repeat=False).object("entry")
            got = popped.text_or_none("task")
            if got == task.id:
                return True
            if got is not None:
                self._pops_any_head = True
                self._returns.return_popped(got, queue_id)
        # Not at the head, or no longer: by name. One winner here too.
        return self._transport.call("queues.remove_task", wanted, may_repeat=False).count("removed", 0) > 0

    # --- tasks

    def states(self, tasks: Sequence[str]) -> Mapping[str, TaskState]:
        return {id_: record.state for id_, record in records(self._transport, tasks).items()}

    def container(self, task: str) -> TaskContainer:
        """The container that this task asks for."""
        return read_container(self._transport, task)

    def started(self, task: str, worker: str, why: str) -> None:
        self._change("started", task, why, f"pulled by {worker}")

    def completed(self, task: str, why: str) -> None:
        self._change("completed", task, why)

    def failed(self, task: str, why: str) -> None:
        self._change("failed", task, why)

    def stopped(self, task: str, why: str) -> None:
        self._change("stopped", task, why)

    def ping(self, task: str) -> None:
        self._transport.call("tasks.ping", {"task": task})

    def send_log(self, task: str, worker: str, lines: Sequence[LogLine]) -> None:
        for packet, events in packets(task, worker, lines):
            # Repeated by the caller, who keeps the lines; the same lines make the same events, with the same times.
            added = self._transport.call("events.add_batch", packet, may_repeat=False).count("added", 0)
            if added != events:
                raise ServerUnreachable(f"events.add_batch: {added} of {events} log events of task {task} were stored")

    def _change(self, verb: str, task: str, why: str, message: str = "") -> None:
        """Forced, so that it may be repeated, and so that a status that the script set itself does not stand in the way."""
        body = {"task": task, "force": True, "status_reason": why, "status_message": message}
        self._transport.call(f"tasks.{verb}", body)

    # --- workers

    def register(self, worker: str, queues: Sequence[str], timeout_s: int, tags: Sequence[str] = ()) -> None:
        ids = list(self._directory.ids(queues).values())
        body = {"worker": worker, "queues": ids, "timeout": timeout_s, "tags": list(tags)}
        self._transport.call("workers.register", body)

    def report(
        self, worker: str, task: str | None, queues: Sequence[str], stats: Mapping[str, object], at: datetime
    ) -> None:
        body: dict[str, object] = {
            "worker": worker,
            "timestamp": int(at.timestamp() * 1000),
            "machine_stats": dict(stats) or None,
            "queues": list(self._directory.ids(queues).values()),
        }
        if task is not None:  # without the key the worker counts as idle
            body["task"] = task
        self._transport.call("workers.status_report", body)

    def unregister(self, worker: str) -> None:
        try:
            self._transport.call("workers.unregister", {"worker": worker, "queues": []})
        except ServerRefused as error:
            if error.subcode not in UNKNOWN_WORKER:  # it has expired, or was unregistered before
                raise

    # --- people

    def submit(self, *, name: str, project: str, queue: str, script: Script, tags: Sequence[str] = ()) -> str:
        return self._desk.submit(name=name, project=project, queue=queue, script=script, tags=tags)

    def abort(self, task: str, why: str) -> None:
        self._transport.call("tasks.stop", {"task": task, "force": False, "status_reason": why})

    def log(self, task: str, after: int = 0) -> tuple[Sequence[str], int]:
        return self._desk.log(task, after)
