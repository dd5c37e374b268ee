"""Calls that may take long, done by a thread of their own, the urgent ones first; what comes of them is an event."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from enum import IntEnum

from fleet.errors import FleetError
from fleet.supervisor.events import Event, Failed

Report = Callable[[Event], None]


class Urgency(IntEnum):
    CLAIM = 0
    PEEK = 1
    WATCH = 2
    REPORT = 3


class Errands:
    """A queue of calls and the step that does one. A kind of errand that waits already is not queued twice."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._ready = threading.Condition()
        self._heap: list[tuple[int, int, str, Callable[[], Event | None]]] = []
        self._number = 0
        self._busy_with: str | None = None

    def ask(self, urgency: Urgency, name: str, call: Callable[[], Event | None]) -> None:
        """Do `call` soon. An error of fleet's own becomes a `Failed`; what it returns is reported."""
        with self._ready:
            self._number += 1
            heapq.heappush(self._heap, (urgency, self._number, name, call))
            self._ready.notify()

    def has(self, name: str) -> bool:
        """Is an errand of this name waiting or being done?"""
        with self._ready:
            return self._busy_with == name or any(name == waiting for _, _, waiting, _ in self._heap)

    def wait_until_done(self, seconds: float) -> bool:
        """All errands are done; False: not in this time."""
        with self._ready:
            return self._ready.wait_for(lambda: not self._heap and self._busy_with is None, seconds)

    def step(self) -> None:
        """Do the next errand; for the thread's loop."""
        with self._ready:
            self._ready.wait_for(lambda: bool(self._heap))
            _, _, name, call = heapq.heappop(self._heap)
            self._busy_with = name
        try:
            event = call()
        except FleetError as error:
            event = Failed(errand=name, error=error)
        finally:
            with self._ready:
                self._busy_with = None
                self._ready.notify_all()
        if event is not None:
            self._report(event)
