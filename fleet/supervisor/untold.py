"""Attempts that have ended and that the dispatcher has not seen: every heartbeat tells them again, until one was answered.

A machine goes on working without its dispatcher for as long as the ClearML server answers, so there may be thousands of them. They are
told in parts, because a heartbeat that is too long would be refused, and a machine that is refused ends itself. And only the newest are
kept, in memory and in the journal: what became of the others the dispatcher reads from the ClearML server, for runs that it knows of
(`fleet.dispatcher.forgotten`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from itertools import islice

from fleet.model import Run
from fleet.supervisor.journal import Journal

log = logging.getLogger(__name__)

MOST_KEPT = 2000
MOST_TOLD = 100  # by one heartbeat; a run takes half a KiB, and with a long name ten


class Untold:
    """Called by the main thread alone."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._runs: dict[str, Run] = {}  # by the key of their allocation, oldest first
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, key: str, run: Run) -> None:
        """It has ended. The journal holds it already."""
        self._runs[key] = run
        while len(self._runs) > MOST_KEPT:
            oldest = next(iter(self._runs))
            del self._runs[oldest]
            self._journal.forget(oldest)
            if self._dropped == 0:
                log.warning(
                    "runs are not told", extra={"why": f"the dispatcher has not heard of {MOST_KEPT} newer ones"}
                )
            self._dropped += 1

    def told(self) -> tuple[Run, ...]:
        """What the next heartbeat says: the oldest."""
        return tuple(islice(self._runs.values(), MOST_TOLD))

    def forget(self, seen: Collection[Run]) -> bool:
        """The dispatcher has these in its ledger. True: and there are more that it has not been told."""
        known = set(seen)
        keys = [key for key, run in self._runs.items() if run in known]
        for key in keys:
            del self._runs[key]
            self._journal.forget(key)
        if keys and self._dropped:
            log.warning("runs were not told", extra={"runs": self._dropped})
            self._dropped = 0
        return bool(keys and self._runs)
