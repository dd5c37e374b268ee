"""Whether something else than a task keeps this machine awake. Asked by a thread that may wait: drivers may be slow to say."""

from __future__ import annotations

import logging
import os
import threading
from datetime import datetime, timedelta
from pathlib import Path

from agent_hooks.awake import KEEP_ALIVE, Guards, why_awake
from agent_hooks.gpus import Gpus
from fleet.model import KeepAwake, Reason
from fleet.supervisor.errands import Report
from fleet.supervisor.events import FoundAwake

log = logging.getLogger(__name__)

LONGEST_PAUSE, SHORTEST_PAUSE = timedelta(seconds=10), timedelta(seconds=1)  # between looks, while it is idle


class Vigil:
    """Called by the main thread alone."""

    def __init__(self, wanted: KeepAwake, gpus: Gpus, report: Report) -> None:
        self._guards = guards_of(wanted)
        self._gpus = gpus
        self._report = report
        self._is_looking = False
        self.reason: Reason | None = None  # as last seen
        self.awake_at: datetime | None = None  # when there was one last

    @property
    def is_wanted(self) -> bool:
        """There is something to look for, and nobody is looking."""
        return self._guards.is_any and not self._is_looking

    def look(self, now: datetime) -> None:
        def call() -> None:
            try:
                why = why_awake(self._guards, self._gpus)
            finally:
                self._is_looking = False  # before the report: who hears it may look again
            reason = Reason(code="kept_awake", text=f"idle, but kept awake: {why}") if why else None
            self._report(FoundAwake(reason=reason, at=now))

        self._is_looking = True
        threading.Thread(target=call, name="vigil", daemon=True).start()

    def on_found(self, event: FoundAwake) -> None:
        if event.reason:
            self.awake_at = event.at
            if self.reason is None:
                log.info("kept awake", extra={"why": event.reason.text})
        self.reason = event.reason


def vigil_every(idle_timeout: timedelta | None) -> timedelta:
    """Several looks in each idle time: who is there must be seen before it is over."""
    return min(LONGEST_PAUSE, max((idle_timeout or LONGEST_PAUSE) / 3, SHORTEST_PAUSE))


def guards_of(wanted: KeepAwake) -> Guards:
    return Guards(
        ssh=wanted.ssh,
        gpu_percent=wanted.gpu_percent,
        keep_alive_s=wanted.keep_alive.total_seconds() if wanted.keep_alive is not None else None,
        file=Path(os.environ.get("FLEET_KEEP_ALIVE", KEEP_ALIVE)),
    )
