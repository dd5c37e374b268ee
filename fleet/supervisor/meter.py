"""Whether tasks on parts of a GPU keep to their share of its memory. The driver is asked by a thread that may wait.

What it cannot say is not held against a task: where it does not tell what a process holds, or numbers processes otherwise
than this machine (inside a container), nothing is checked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from agent_hooks.gpus import Gpus
from fleet.supervisor.errands import Report
from fleet.supervisor.events import Metered
from fleet.supervisor.jobs import Job
from fleet.supervisor.shares import MIB_PER_GIB, limit_mib
from fleet.supervisor.situation import Overuse

# Beyond the share: a CUDA context takes up to half a GiB before a program has asked for anything.
TOLERANCE_GIB = 0.5


class Meter:
    """Called by the main thread alone."""

    def __init__(self, gpus: Gpus, mark_of: Callable[[int], str | None], report: Report) -> None:
        self._gpus = gpus
        self._mark_of = mark_of  # the allocation that a process belongs to
        self._report = report
        self.is_busy = False

    def look(self, keys: Sequence[str]) -> None:
        """Report what these jobs use."""

        def call() -> None:
            try:
                used = self._used(keys)
            finally:
                self.is_busy = False  # before the report: who hears it may look again
            self._report(Metered(asked=tuple(keys), used_gib=used))

        self.is_busy = True
        threading.Thread(target=call, name="meter", daemon=True).start()

    def _used(self, keys: Sequence[str]) -> dict[str, float]:
        used: dict[str, float] = {}
        for process in self._gpus.processes():
            if process.memory_gib and (mark := self._mark_of(process.pid)) in keys and mark:
                used[mark] = used.get(mark, 0.0) + process.memory_gib
        return used


def overuse(job: Job, used_gib: float) -> Overuse | None:
    """How much more than its share a job uses, and how often in a row; None: it does not."""
    share = job.task.need.share
    if share is None or not job.gpus:
        return None
    allowed_gib = limit_mib(share, job.gpus[0]) / MIB_PER_GIB
    if used_gib <= allowed_gib + TOLERANCE_GIB:
        return None
    times = job.overuse.times + 1 if job.overuse else 1
    return Overuse(used_gib=used_gib, allowed_gib=allowed_gib, times=times)
