"""How often the agents of tasks could not be started on this machine, and when last.

A task that is put back is most often taken by another machine, and nobody here hears of it again: only the newest are remembered. One
that was forgotten is tried once more, which is all it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fleet.supervisor.situation import FailedStart

MOST = 200


class Setbacks:
    """Called by the main thread alone."""

    def __init__(self) -> None:
        self._by_task: dict[str, FailedStart] = {}  # the newest last

    @property
    def by_task(self) -> Mapping[str, FailedStart]:
        return self._by_task

    def times(self, task: str) -> int:
        before = self._by_task.get(task)
        return before.times if before else 0

    def note(self, task: str, times: int, at: datetime) -> None:
        """It has failed so often now."""
        self._by_task.pop(task, None)
        self._by_task[task] = FailedStart(times=times, at=at)
        if len(self._by_task) > MOST:
            del self._by_task[next(iter(self._by_task))]

    def forget(self, task: str) -> None:
        """It could be started, or is over."""
        self._by_task.pop(task, None)
