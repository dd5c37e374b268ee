"""Waits for the dispatcher's hint that work may wait, so that a task starts in milliseconds and not at the next poll.

A hint is never the truth: without this thread the supervisor works too, at its poll interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fleet.errors import FleetError
from fleet.supervisor.superior import Superior

PAUSE_S = 1.0  # after a failure, doubled up to the longest
LONGEST_PAUSE_S = 15.0


class Hints:
    """`on_hint` for every hint."""

    def __init__(self, centre: Superior, on_hint: Callable[[], None]) -> None:
        self._centre, self._on_hint = centre, on_hint
        self._after: int | None = None
        self._pause_s = PAUSE_S

    def step(self) -> None:
        """Ask once; for the thread's loop."""
        asked_at = time.monotonic()
        try:
            newest = self._centre.hint(self._after or 0)
        except FleetError:  # the heartbeat tells of it
            time.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return
        self._pause_s = PAUSE_S
        if newest != self._after:  # also lower: the dispatcher was restarted
            self._after = newest
            self._on_hint()
        elif time.monotonic() - asked_at < PAUSE_S:  # it does not hold the question: do not ask in a circle
            time.sleep(PAUSE_S)
