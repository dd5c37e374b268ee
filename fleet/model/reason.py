"""Why something is done, or is not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something is done, or not done. Every action and every event carries one."""

    code: str  # a stable word for programs: "demand", "idle", "boot_timeout", "max_instances"
    text: str  # one sentence for people; names the queue, the task, the limit
    queue: str | None = None
    task: str | None = None
    limit: str | None = None  # the limit that decided, as in the fleet file: "resources.gpu.max_instances=2"
    user: str | None = None  # of the first task, for a launch: whose budget pays

    def __str__(self) -> str:
        return self.text
