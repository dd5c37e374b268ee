"""Tasks as the server tells them, read into our words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleet.queues.answers import Answer
from fleet.queues.base import TaskContainer, TaskState, TaskStatus
from fleet.queues.transport import Transport

CHUNK = 250  # ids in one call: answers stay small, and below the page that a server gives without being asked
# Runtime properties. What a script has registered for its abort; the next run registers its own.
ABORT_CALLBACK = ("_abort_callback_timeout", "_abort_poll_freq", "_abort_callback_completed")
RESUMES = "fleet_resumes"  # how often it was asked to save itself and put back
PAGE = 500  # as the SDK itself asks for
FIELDS = (
    "id",
    "name",
    "status",
    "status_message",
    "status_reason",
    "execution.queue",
    "last_worker",
    "last_update",
    "runtime._abort_callback_timeout",
    "runtime._abort_callback_completed",
)
CONTAINER_FIELDS = (
    "container.image",
    "container.arguments",
    "container.setup_shell_script",
    "execution.docker_cmd",
    "script.repository",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A task's state, and what follows from it."""

    state: TaskState

    @property
    def is_asked_to_stop(self) -> bool:
        """Its user pressed abort; the one that runs it is to end it."""
        return self.state.status is TaskStatus.IN_PROGRESS and self.state.is_stop_asked


def records(transport: Transport, ids: Sequence[str]) -> dict[str, Record]:
    """These tasks by id; those that do not exist are missing."""
    unique = list(dict.fromkeys(ids))
    found: dict[str, Record] = {}
    for start in range(0, len(unique), CHUNK):
        body = {"id": unique[start : start + CHUNK], "only_fields": list(FIELDS), "search_hidden": True}
        found |= {r.state.id: r for r in map(read_record, transport.call("tasks.get_all", body).objects("tasks"))}
    return found


def read_container(transport: Transport, id_: str) -> TaskContainer:
    """The container of one task; without any wish if it does not exist."""
    body = {"id": [id_], "only_fields": ["id", *CONTAINER_FIELDS], "search_hidden": True}
    for task in transport.call("tasks.get_all", body).objects("tasks"):
        container = task.object("container")
        # What tasks of old SDKs have: image and arguments in one line.
        image, _, arguments = task.object("execution").text("docker_cmd", "").strip().partition(" ")
        return TaskContainer(
            image=container.text("image", "").strip() or image,
            arguments=container.text("arguments", "") or arguments,
            setup_script=container.text("setup_shell_script", ""),
            has_repository=bool(task.object("script").text("repository", "")),
        )
    return TaskContainer()


def queued(transport: Transport) -> Iterator[Record]:
    """Every task with status *queued*, page by page."""
    page = 0
    while True:
        body = {
            "status": ["queued"],
            "only_fields": list(FIELDS),
            "order_by": ["-last_update"],
            "page": page,
            "page_size": PAGE,
            "search_hidden": True,
        }
        tasks = transport.call("tasks.get_all", body).objects("tasks")
        yield from map(read_record, tasks)
        if len(tasks) < PAGE:
            return
        page += 1


def read_record(task: Answer) -> Record:
    """A task object with (at least) FIELDS."""
    runtime = task.object("runtime").data
    state = TaskState(
        id=task.text("id"),
        name=task.text("name", ""),
        status=_status(task.text("status", "unknown")),
        status_message=task.text("status_message", ""),
        queue_id=task.object("execution").text_or_none("queue"),
        last_worker=task.text_or_none("last_worker"),
        last_update=task.time_or_none("last_update"),
        abort_callback_timeout_s=_seconds(runtime.get("_abort_callback_timeout")),
        is_abort_callback_done=_is_yes(runtime.get("_abort_callback_completed")),
        status_reason=task.text("status_reason", ""),
    )
    return Record(state=state)


def resumes_of(runtime: Mapping[str, object]) -> int:
    """How often the task was put back to go on from what it saved."""
    value = runtime.get(RESUMES)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _status(text: str) -> TaskStatus:
    return TaskStatus(text) if text in set(TaskStatus) else TaskStatus.UNKNOWN


def _seconds(value: object) -> float:
    """The SDK writes numbers as texts; anything else means that no callback was registered."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else 0.0
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


def _is_yes(value: object) -> bool:
    return str(value).strip().lower() not in ("", "none", "0", "0.0", "false")
