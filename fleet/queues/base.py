"""What fleet needs of a ClearML API server, in three small contracts: Demand (the dispatcher's eyes on the queues),
Claims (the supervisor's way to take, run and report tasks) and Desk (what people's commands ask).

`fleet.queues.client` fulfils them against any ClearML server; `fleet.queues.memory` in memory, for tests and the simulator.
All calls raise `ServerUnreachable`, `ServerUnauthorised` or `ServerRefused` (fleet.errors) and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from fleet.model import Queue, Task

# To re-queue a running task it must be stopped first. If we die between the two calls, whoever repeats the return must be able
# to tell our stop from one that the user asked for: ours gives a reason that begins so.
OURS = "fleet: back to its queue"


class TaskStatus(StrEnum):
    """ClearML's own words for a task's status."""

    CREATED = "created"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"
    CLOSED = "closed"
    PUBLISHED = "published"
    PUBLISHING = "publishing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """A task as the server has it now."""

    id: str
    name: str
    status: TaskStatus
    status_message: str
    queue_id: str | None  # the queue that it was last enqueued to
    last_worker: str | None
    last_update: datetime | None
    # A training script that wants to save itself first registers this: (seconds it may take, has it finished).
    abort_callback_timeout_s: float = 0.0
    is_abort_callback_done: bool = False
    status_reason: str = ""  # that whoever changed the status last gave

    @property
    def can_save_itself(self) -> bool:
        """Its script has an abort callback, which has not run."""
        return self.abort_callback_timeout_s > 0 and not self.is_abort_callback_done

    @property
    def is_stop_asked(self) -> bool:
        """Its user asks for the end. We may have asked ourselves, to have it save itself (`Claims.ask_to_save`)."""
        return "stopping" in self.status_message and not self.status_reason.startswith(OURS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One piece of a task's console, at the time it was read, milliseconds matter for the order."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContainer:
    """The container that a task asks for (the SDK's `set_base_docker`), and whether its code comes from git."""

    image: str = ""
    arguments: str = ""  # as for `docker run`
    setup_script: str = ""  # shell, before the agent
    has_repository: bool = False


class Demand(Protocol):
    """The dispatcher's eyes on the queues, and the way back into them."""

    def ensure_queues(self, names: Sequence[str]) -> Mapping[str, str]:
        """Ids of these queues by name; those that are missing are created."""
        ...

    def waiting(self, queues: Sequence[Queue]) -> tuple[Task, ...]:
        """All tasks that wait in these queues, heads first, with what each needs (its own wish over the queue's)."""
        ...

    def states(self, tasks: Sequence[str]) -> Mapping[str, TaskState]:
        """These tasks as they are now; one that does not exist is missing from the answer."""
        ...

    def lost(self, queues: Sequence[Queue]) -> tuple[TaskState, ...]:
        """Tasks with status *queued* whose queue is one of these but does not hold them: claimed by somebody who died."""
        ...

    def put_back(self, task: str, queue: str, why: str) -> None:
        """Back to the head of `queue` (a name), from whatever state but a final one its user chose."""
        ...

    def failed(self, task: str, why: str) -> None:
        """Give up a task that lost its machine too often."""
        ...

    def unregister(self, worker: str) -> None:
        """A worker whose machine is gone. One that is not known is no error."""
        ...


class Claims(Protocol):
    """The supervisor's side: peek, take, report."""

    def waiting(self, queues: Sequence[Queue], first: int | None = None) -> tuple[Task, ...]:
        """As `Demand.waiting`, but only the `first` entries of each queue."""
        ...

    def claim(self, task: Task) -> bool:
        """Take this very task out of its queue. True for exactly one of all who try; False: somebody else has it."""
        ...

    def put_back(self, task: str, queue: str, why: str) -> None:
        """As `Demand.put_back`."""
        ...

    def ask_to_save(self, task: str, why: str) -> None:
        """As the web UI's Abort, but for us: the task's abort callback runs, and `put_back` is what comes next."""
        ...

    def mark_resumable(self, task: str) -> None:
        """It was asked to save itself, and goes on from that when it runs next: counted in `Task.resumes`, until it is reset."""
        ...

    def started(self, task: str, worker: str, why: str) -> None:
        """The task is in progress on this worker."""
        ...

    def completed(self, task: str, why: str) -> None: ...

    def failed(self, task: str, why: str) -> None: ...

    def stopped(self, task: str, why: str) -> None: ...

    def states(self, tasks: Sequence[str]) -> Mapping[str, TaskState]:
        """As `Demand.states`, in one call; also the sign of life that keeps the server's watchdog away (`ping`)."""
        ...

    def ping(self, task: str) -> None: ...

    def send_log(self, task: str, worker: str, lines: Sequence[LogLine]) -> None:
        """Append to the task's console, in order. Raises if not all were stored: send the same again."""
        ...

    def register(self, worker: str, queues: Sequence[str], timeout_s: int, tags: Sequence[str] = ()) -> None:
        """Announce a worker (an allocation or the supervisor). It expires `timeout_s` after its last report."""
        ...

    def report(
        self, worker: str, task: str | None, queues: Sequence[str], stats: Mapping[str, object], at: datetime
    ) -> None:
        """A worker's status report: what it does, and machine statistics under ClearML's own names."""
        ...

    def unregister(self, worker: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script as a task runs it: from a git repository with uncommitted changes, or whole in `diff`."""

    entry_point: str  # "train.py --lr 0.1": the agent splits it as a shell would
    working_dir: str = "."
    binary: str = "python3"
    repository: str = ""
    branch: str = ""
    version_num: str = ""  # the commit
    diff: str = ""  # uncommitted changes; without a repository the whole script
    requirements: str | None = None  # requirements.txt as text; None: the agent looks in the repository


class Desk(Protocol):
    """What the commands for people ask of the server."""

    def submit(self, *, name: str, project: str, queue: str, script: Script, tags: Sequence[str] = ()) -> str:
        """Create a task and enqueue it; its id.

        Raises:
            ServerRefused: no such queue; the text lists the queues that exist.
        """
        ...

    def abort(self, task: str, why: str) -> None:
        """Ask for the end of a task, as the web UI's Abort does: one that waits is stopped now, one that runs soon."""
        ...

    def log(self, task: str, after: int = 0) -> tuple[Sequence[str], int]:
        """Console texts from position `after` on, oldest first, and the position to go on from."""
        ...

    def states(self, tasks: Sequence[str]) -> Mapping[str, TaskState]: ...
