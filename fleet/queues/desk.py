"""What people's commands ask of the server: a new task, and the console of one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fleet.errors import ServerUnreachable
from fleet.queues.base import Script
from fleet.queues.directory import Directory
from fleet.queues.transport import Transport

LOG_BATCH = 5000
SAME_MS = 100_000  # more texts than one batch holds


class FrontDesk:
    """Submits scripts as tasks and reads consoles."""

    def __init__(self, transport: Transport, directory: Directory) -> None:
        self._transport = transport
        self._directory = directory

    def submit(self, *, name: str, project: str, queue: str, script: Script, tags: Sequence[str]) -> str:
        """As `Desk.submit`. If the enqueueing fails, the task stays behind as a draft, and the error names it."""
        queue_id = self._directory.id(queue)
        body = {
            "name": name,
            "type": "training",
            "project": self._project(project),
            "tags": list(tags),
            "script": _script(script),
        }
        # Not repeated after a lost answer: a second draft would appear.
        task = self._transport.call("tasks.create", body, may_repeat=False).text("id")
        try:
            self._transport.call("tasks.enqueue", {"queue": queue_id, "task": task, "verify_watched_queue": False})
        except ServerUnreachable as error:
            raise ServerUnreachable(f"task {task} is made, but perhaps not enqueued: {error}") from error
        return task

    def log(self, task: str, after: int) -> tuple[Sequence[str], int]:
        """As `Desk.log`. A position is the time of the last text in milliseconds since 1970, and how many texts of that
        millisecond were read: a burst of lines shares one, and may be cut in two by the end of a batch."""
        at, seen = divmod(after, SAME_MS)
        body: dict[str, object] = {"task": task, "batch_size": LOG_BATCH, "navigate_earlier": False, "order": "asc"}
        if at:
            body["from_timestamp"] = at - 1  # servers differ on whether the bound itself is in
        events = self._transport.call("events.get_task_log", body).objects("events")
        read = sorted(((event.count("timestamp"), event.text("msg", "")) for event in events), key=lambda item: item[0])
        new = [item for item in read if item[0] >= at]
        new = new[min(seen, sum(1 for item in new if item[0] == at)) :]
        if not new:
            return (), after
        last = new[-1][0]
        again = seen if last == at else 0
        return tuple(text for _, text in new), last * SAME_MS + again + sum(1 for item in new if item[0] == last)

    def _project(self, name: str) -> str:
        """The id of the project with this name, made if need be."""
        body = {"name": f"^{re.escape(name)}$", "only_fields": ["id", "name"], "search_hidden": True}
        for project in self._transport.call("projects.get_all", body).objects("projects"):
            if project.text("name", name) == name:
                return project.text("id")
        return self._transport.call("projects.create", {"name": name, "description": ""}).text("id")


def _script(script: Script) -> dict[str, object]:
    fields: dict[str, object] = {
        "binary": script.binary,
        "repository": script.repository,
        "branch": script.branch,
        "version_num": script.version_num,
        "entry_point": script.entry_point,
        "working_dir": script.working_dir,
        "diff": script.diff,
    }
    if script.requirements is not None:
        fields["requirements"] = {"pip": script.requirements}
    return fields
