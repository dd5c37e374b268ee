"""What people's commands ask of the server: a new task, and the console of one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fleet.errors import ServerUnreachable
from fleet.queues.base import Script
from fleet.queues.directory import Directory
from fleet.queues.transport import Transport

LOG_BATCH = 5000


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
        """As `Desk.log`. A position is the time of the last text, in milliseconds since 1970."""
        body: dict[str, object] = {"task": task, "batch_size": LOG_BATCH, "navigate_earlier": False, "order": "asc"}
        if after:
            body["from_timestamp"] = after
        events = self._transport.call("events.get_task_log", body).objects("events")
        read = [(event.count("timestamp"), event.text("msg", "")) for event in events]
        new = sorted((item for item in read if item[0] > after), key=lambda item: item[0])
        return tuple(text for _, text in new), new[-1][0] if new else after

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
