"""Where the threads lay down what happened, and the main one takes it from."""

from __future__ import annotations

import queue

from fleet.supervisor.events import Event


class Inbox:
    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.put = self._events.put

    def take(self, wait_s: float) -> list[Event]:
        """All that have come; waits so long for the first."""
        found: list[Event] = []
        while True:
            try:
                found.append(self._events.get(timeout=wait_s) if wait_s > 0 else self._events.get_nowait())
            except queue.Empty:
                return found
            wait_s = 0.0
