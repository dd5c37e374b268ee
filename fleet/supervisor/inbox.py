"""Where the threads lay down what happened, and the main one takes it from."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from fleet.supervisor.events import Event


class Inbox:
    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.put = self._events.put

    def take(self, wait_s: float) -> Iterator[Event]:
        """All that have come, one by one; waits so long for the first. An event that is not asked for stays here: whoever fails over
        one does not lose those behind it."""
        try:
            yield self._events.get(timeout=wait_s) if wait_s > 0 else self._events.get_nowait()
        except queue.Empty:
            return
        for _ in range(self._events.qsize()):  # not those that come meanwhile, or nothing would be decided
            yield self._events.get_nowait()
