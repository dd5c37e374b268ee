"""What waits in the queues, in two calls a poll: the entries of all queues, and the details of tasks not seen before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.model import Queue, Task
from fleet.queues.answers import Answer
from fleet.queues.directory import Directory
from fleet.queues.tasks import CHUNK, RESUMES, resumes_of
from fleet.queues.transport import Transport
from fleet.queues.wishes import gang_of, wishes

# A user may add the tag gpus:2 to a task that waits already: it is seen within this time.
DETAILS_ARE_FRESH_S = 60.0
# As the stock agent understands a queue's tags; fleet's own server marks a deleted queue that is still polled with it.
PAUSED = "force_workers:off"
DETAILS = (
    "id",
    "name",
    "project",
    "user",
    "tags",
    "hyperparams.properties",
    "parent",
    "system_tags",
    f"runtime.{RESUMES}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one queue holds, head first: each entry has the task's id and the time it was put in."""

    entries: tuple[Answer, ...]
    is_paused: bool  # its tags say that nobody shall pull from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a waiting task says of itself."""

    name: str
    project: str  # its id
    user: str
    tags: tuple[str, ...]
    properties: Mapping[str, str]
    gang: str | None
    resumes: int
    added: datetime  # to its queue
    read_at: float  # monotonic seconds


class WaitingList:
    """All tasks that wait in given queues. `first`: only so many of each queue, and without the projects' names."""

    def __init__(self, transport: Transport, directory: Directory, first: int | None) -> None:
        self._transport = transport
        self._directory = directory
        self._first = first
        self._details: dict[str, Details] = {}
        self._projects: dict[str, str] = {}

    def read(self, queues: Sequence[Queue], first: int | None = None) -> tuple[Task, ...]:
        """By the queues' priority, then their order, then position. Nothing waits in a queue that is paused or does not exist.

        `first` is for this time only: it replaces what was said at the beginning.
        """
        held = self._held([queue.name for queue in queues], self._first if first is None else first)
        details = self._read_details({e.text("task"): e.time("added") for each in held.values() for e in each.entries})
        ranked = sorted((queue for queue in queues if queue.name in held), key=lambda queue: -queue.priority)
        return tuple(
            self._task(queue, position, entry, details[entry.text("task")])
            for queue in ranked
            for position, entry in enumerate(held[queue.name].entries)
            if entry.text("task") in details
        )

    def _held(self, names: Sequence[str], first: int | None) -> dict[str, Held]:
        """What the queues of these names hold; paused ones are left out."""
        found = self._held_now(names, first)
        # Deleted, and perhaps made again under a new id. Ours leaves a paused tombstone behind, so those are asked for again too.
        if odd := [name for name in self._directory.ids(names) if name not in found or found[name].is_paused]:
            self._directory.forget(*odd)
            found |= self._held_now(odd, first)
        return {name: held for name, held in found.items() if not held.is_paused}

    def _held_now(self, names: Sequence[str], first: int | None) -> dict[str, Held]:
        ids = self._directory.ids(names)
        by_id = held_by_id(self._transport, list(ids.values()), first)
        return {name: by_id[id_] for name, id_ in ids.items() if id_ in by_id}

    def _read_details(self, ids: Mapping[str, datetime]) -> Mapping[str, Details]:
        """Details of all `ids` that are new, or that came back, and of a few that were read long ago; forget those that no
        longer wait. `ids`: when each was put into its queue."""
        now = time.monotonic()
        known = {id_: d for id_, added in ids.items() if (d := self._details.get(id_)) and d.added == added}
        new = [id_ for id_ in ids if id_ not in known]
        old = [id_ for id_, details in known.items() if now - details.read_at > DETAILS_ARE_FRESH_S]
        asked = new + old[:CHUNK]
        for start in range(0, len(asked), CHUNK):
            body = {"id": asked[start : start + CHUNK], "only_fields": list(DETAILS), "search_hidden": True}
            tasks = self._transport.call("tasks.get_all", body).objects("tasks")
            known |= {task.text("id"): _details(task, ids[task.text("id")], now) for task in tasks}
        self._details = known
        if self._first is None:
            self._name_projects({details.project for details in known.values()} - {""})
        return known

    def _name_projects(self, wanted: set[str]) -> None:
        """Names of the projects of all that waits, and of no others: a project that comes back may have another by then."""
        self._projects = {id_: name for id_, name in self._projects.items() if id_ in wanted}
        if ids := wanted - self._projects.keys():
            body = {"id": sorted(ids), "only_fields": ["id", "name"], "search_hidden": True}
            projects = self._transport.call("projects.get_all", body).objects("projects")
            self._projects |= dict.fromkeys(ids, "") | {p.text("id"): p.text("name", "") for p in projects}

    def _task(self, queue: Queue, position: int, entry: Answer, details: Details) -> Task:
        wished = wishes(queue.need, details.tags, details.properties, queue.gpu_type, queue.gpu_memory_gib)
        return Task(
            id=entry.text("task"),
            queue=queue.name,
            position=position,
            enqueued_at=entry.time("added"),
            need=wished.need,
            name=details.name,
            project=self._projects.get(details.project, ""),
            user=details.user,
            gpu_type=wished.gpu_type,
            gpu_memory_gib=wished.gpu_memory_gib,
            instances=wished.instances,
            is_one_zone=wished.is_one_zone,
            gang=details.gang,
            resumes=details.resumes,
            notes=wished.ignored,
        )


def held_by_id(transport: Transport, ids: Sequence[str], first: int | None = None) -> dict[str, Held]:
    """What these queues hold, in one call; a queue that does not exist is missing."""
    if not ids:  # an empty list of ids would mean every queue
        return {}
    body: dict[str, object] = {"id": list(ids), "only_fields": ["id", "tags", "entries"], "search_hidden": True}
    if first is not None:
        body["max_task_entries"] = first
    queues = transport.call("queues.get_all", body).objects("queues")
    return {
        queue.text("id"): Held(entries=queue.objects("entries")[:first], is_paused=PAUSED in queue.texts("tags"))
        for queue in queues
    }


def _details(task: Answer, added: datetime, now: float) -> Details:
    return Details(
        name=task.text("name", ""),
        project=_label(task, "project"),
        user=_label(task, "user"),
        tags=tuple(task.texts("tags")),
        properties=_properties(task.data.get("hyperparams")),
        gang=gang_of(_label(task, "parent"), task.texts("system_tags")),
        resumes=resumes_of(task.object("runtime").data),
        added=added,
        read_at=now,
    )


def _properties(hyperparams: object) -> dict[str, str]:
    """The user properties by name, as far as they can be read. A user writes them, and one whose task is odd must not keep the
    tasks of all others from being seen."""
    section = hyperparams.get("properties") if isinstance(hyperparams, Mapping) else None
    if not isinstance(section, Mapping):
        return {}
    values = {name: item.get("value") if isinstance(item, Mapping) else item for name, item in section.items()}
    return {name: str(v) for name, v in values.items() if isinstance(v, str | int | float) and v != ""}


def _label(task: Answer, key: str) -> str:
    """An id as text; servers that answer with the whole object instead are understood as well."""
    value = task.data.get(key)
    return value if isinstance(value, str) else task.object(key).text("id", "") if value else ""
