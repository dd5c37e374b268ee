"""A ClearML server in memory: the three contracts without I/O, for tests and the simulator. Time is the caller's.

What the real one is told by people and agents is a verb here too: `add`, `enqueue`, `ask_to_stop`, `reset`, `delete`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet.errors import ServerRefused
from fleet.model import Queue, Task, altered
from fleet.nearest import which
from fleet.queues.base import OURS, LogLine, Script, TaskState, TaskStatus
from fleet.queues.wishes import wishes

# What put_back leaves alone: its user chose it.
CHOSEN = (
    TaskStatus.CREATED,
    TaskStatus.STOPPED,
    TaskStatus.COMPLETED,
    TaskStatus.FAILED,
    TaskStatus.CLOSED,
    TaskStatus.PUBLISHED,
    TaskStatus.PUBLISHING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A registered worker as the server sees it."""

    id: str
    queues: tuple[str, ...]
    timeout: timedelta
    tags: tuple[str, ...] = ()
    task: str | None = None
    stats: Mapping[str, object] = field(default_factory=dict)
    reported_at: datetime


@dataclass(slots=True, kw_only=True)
class _Record:
    """All that the server keeps of one task."""

    state: TaskState
    tags: tuple[str, ...]
    properties: Mapping[str, str]
    project: str
    user: str
    script: Script | None
    gang: str | None
    resumes: int = 0
    queue: str | None = None  # the name of the one it was last enqueued to
    enqueued_at: datetime | None = None
    console: list[str] = field(default_factory=list)
    shown: Task | None = None  # as `waiting` showed it last
    shown_for: Queue | None = None


class MemoryServer:
    """Demand, Claims and Desk over plain dicts. One thread at a time."""

    def __init__(self, now: Callable[[], datetime], *, first_entries: int | None = None) -> None:
        self._now = now
        self._first_entries = first_entries
        self._queues: dict[
            str, dict[str, None]
        ] = {}  # name -> task ids, head first (a dict keeps order, and finds at once)
        self._tasks: dict[str, _Record] = {}
        self._queued: dict[str, None] = {}  # those with this status: few of all that there ever were
        self._workers: dict[str, Worker] = {}

    # --- what people do

    def add(
        self,
        name: str,
        *,
        id: str | None = None,
        tags: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        project: str = "",
        user: str = "",
        script: Script | None = None,
        gang: str | None = None,
    ) -> str:
        """A new draft; its id. `gang`: the task that starts it as another node of itself."""
        task = id or f"{len(self._tasks) + 1:032x}"
        state = TaskState(
            id=task,
            name=name,
            status=TaskStatus.CREATED,
            status_message="",
            queue_id=None,
            last_worker=None,
            last_update=self._now(),
        )
        self._tasks[task] = _Record(
            state=state,
            tags=tuple(tags),
            properties=dict(properties or {}),
            project=project,
            user=user,
            script=script,
            gang=gang,
        )
        return task

    def enqueue(self, task: str, queue: str) -> None:
        """To the end of `queue`, from any state that a person may enqueue from.

        Raises:
            ServerRefused: no such task or queue, or it runs, or is queued already.
        """
        record, entries = self._record(task), self._entries(queue)
        if record.state.status in (TaskStatus.IN_PROGRESS, TaskStatus.QUEUED):
            raise ServerRefused(f"task {task} is {record.state.status}; it cannot be enqueued", 400, 706)
        entries[task] = None
        record.queue, record.enqueued_at = queue, self._now()
        self._set(record, TaskStatus.QUEUED)

    def ask_to_stop(self, task: str) -> None:
        """Its user presses abort: whoever runs it sees *stopping*; one that waits is stopped at once."""
        record = self._record(task)
        if record.state.status is TaskStatus.IN_PROGRESS:
            record.state = replace(record.state, status_message="stopping", status_reason="", last_update=self._now())
        elif record.state.status is TaskStatus.QUEUED:
            self._unqueue(task)
            self._set(record, TaskStatus.STOPPED)

    def reset(self, task: str) -> None:
        """Back to a draft, as its user may do at any time."""
        self._unqueue(task)
        self._record(task).resumes = 0
        self._set(self._record(task), TaskStatus.CREATED)

    def delete(self, task: str) -> None:
        self._unqueue(task)
        self._tasks.pop(task, None)
        self._queued.pop(task, None)

    def workers(self) -> tuple[Worker, ...]:
        """Those that have not expired."""
        return tuple(w for w in self._workers.values() if w.reported_at + w.timeout > self._now())

    # --- Demand

    def ensure_queues(self, names: Sequence[str]) -> Mapping[str, str]:
        for name in names:
            self._queues.setdefault(name, {})
        return {name: f"id of {name}" for name in names}

    def waiting(self, queues: Sequence[Queue], first: int | None = None) -> tuple[Task, ...]:
        found = []
        most = self._first_entries if first is None else first
        for queue in sorted(queues, key=lambda queue: -queue.priority):
            for position, task in enumerate(self._queues.get(queue.name, {})):
                if position == most:
                    break
                found.append(self._waiting(task, queue, position))
        return tuple(found)

    def states(self, tasks: Sequence[str]) -> Mapping[str, TaskState]:
        return {task: self._tasks[task].state for task in tasks if task in self._tasks}

    def lost(self, queues: Sequence[Queue]) -> tuple[TaskState, ...]:
        names = {queue.name for queue in queues}
        return tuple(
            record.state
            for task, record in ((task, self._tasks[task]) for task in self._queued)
            if record.queue in names and task not in self._queues.get(record.queue, {})
        )

    def put_back(self, task: str, queue: str, why: str) -> None:
        entries = self._entries(queue)
        record = self._tasks.get(task)
        if record is None or record.state.status in CHOSEN:
            return
        if record.state.is_stop_asked:
            self._set(record, TaskStatus.STOPPED, why)
            return
        if record.queue != queue and task in self._queues.get(record.queue or "", {}):
            return  # its user moved it
        self._unqueue(task)
        self._queues[queue] = {task: None} | entries
        record.queue = queue
        record.enqueued_at = self._now()
        self._set(record, TaskStatus.QUEUED)

    # --- Claims

    def claim(self, task: Task) -> bool:
        entries = self._entries(task.queue)
        if task.id not in entries:
            return False
        del entries[task.id]
        return True

    def ask_to_save(self, task: str, why: str) -> None:
        self.ask_to_stop(task)
        record = self._record(task)
        record.state = replace(record.state, status_reason=f"{OURS}: {why}")

    def mark_resumable(self, task: str) -> None:
        self._record(task).resumes += 1

    def started(self, task: str, worker: str, why: str) -> None:
        record = self._record(task)
        self._set(record, TaskStatus.IN_PROGRESS, f"pulled by {worker}")
        record.state = altered(record.state, last_worker=worker)

    def completed(self, task: str, why: str) -> None:
        self._set(self._record(task), TaskStatus.COMPLETED, why)

    def failed(self, task: str, why: str) -> None:
        self._set(self._record(task), TaskStatus.FAILED, why)

    def stopped(self, task: str, why: str) -> None:
        self._set(self._record(task), TaskStatus.STOPPED, why)

    def ping(self, task: str) -> None:
        record = self._record(task)
        record.state = replace(record.state, last_update=self._now())

    def send_log(self, task: str, worker: str, lines: Sequence[LogLine]) -> None:
        self._record(task).console.extend(line.text for line in lines)

    def register(self, worker: str, queues: Sequence[str], timeout_s: int, tags: Sequence[str] = ()) -> None:
        self._workers[worker] = Worker(
            id=worker,
            queues=tuple(queues),
            timeout=timedelta(seconds=timeout_s),
            tags=tuple(tags),
            reported_at=self._now(),
        )

    def report(
        self, worker: str, task: str | None, queues: Sequence[str], stats: Mapping[str, object], at: datetime
    ) -> None:
        if worker not in self._workers:  # a server takes a report for a registration
            self.register(worker, queues, timeout_s=600)
        self._workers[worker] = replace(self._workers[worker], task=task, stats=dict(stats), reported_at=self._now())
        if task in self._tasks:
            record = self._tasks[task]
            record.state = replace(record.state, last_worker=worker, last_update=self._now())

    def unregister(self, worker: str) -> None:
        self._workers.pop(worker, None)

    # --- Desk

    def submit(self, *, name: str, project: str, queue: str, script: Script, tags: Sequence[str] = ()) -> str:
        self._entries(queue)
        task = self.add(name, project=project, script=script, tags=tags)
        self.enqueue(task, queue)
        return task

    def abort(self, task: str, why: str) -> None:
        self.ask_to_stop(task)

    def log(self, task: str, after: int = 0) -> tuple[Sequence[str], int]:
        console = self._record(task).console
        return tuple(console[after:]), len(console)

    # --- inside

    def _waiting(self, task: str, queue: Queue, position: int) -> Task:
        record = self._tasks[task]
        shown = record.shown
        if shown and record.shown_for is queue and shown.enqueued_at == record.enqueued_at:
            if shown.position != position:
                record.shown = shown = altered(shown, position=position)
            return shown
        wished = wishes(queue.need, record.tags, record.properties, queue.gpu_type, queue.gpu_memory_gib)
        record.shown_for = queue
        record.shown = Task(
            id=task,
            queue=queue.name,
            position=position,
            enqueued_at=record.enqueued_at or self._now(),
            need=wished.need,
            name=record.state.name,
            project=record.project,
            user=record.user,
            gpu_type=wished.gpu_type,
            gpu_memory_gib=wished.gpu_memory_gib,
            instances=wished.instances,
            is_one_zone=wished.is_one_zone,
            gang=record.gang,
            resumes=record.resumes,
            notes=wished.ignored,
        )
        return record.shown

    def _set(self, record: _Record, status: TaskStatus, message: str = "") -> None:
        queue_id = f"id of {record.queue}" if record.queue else None
        record.state = altered(
            record.state,
            status=status,
            status_message=message,
            status_reason="",
            queue_id=queue_id,
            last_update=self._now(),
        )
        if status is TaskStatus.QUEUED:
            self._queued[record.state.id] = None
        else:
            self._queued.pop(record.state.id, None)

    def _unqueue(self, task: str) -> None:
        for entries in self._queues.values():
            entries.pop(task, None)

    def _record(self, task: str) -> _Record:
        if task not in self._tasks:
            raise ServerRefused(f"no task {task}", 400, 101)
        return self._tasks[task]

    def _entries(self, queue: str) -> dict[str, None]:
        if queue not in self._queues:
            raise ServerRefused(f"no queue is called {queue!r}; {which(queue, sorted(self._queues))}", 400, 701)
        return self._queues[queue]
