"""Time that only goes forward: a machine's clock may be set right minutes after boot, and no deadline must notice."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Aware UTC, anchored when it is made. It also counts the time that a suspended machine slept."""

    def __init__(self) -> None:
        self._anchor = datetime.now(UTC)
        self._start = time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> datetime:
        return self.at(time.clock_gettime(time.CLOCK_BOOTTIME))

    def at(self, since_boot_s: float) -> datetime:
        """This moment, given in seconds since boot: how a process tells the next one of a time."""
        return self._anchor + timedelta(seconds=since_boot_s - self._start)

    def since_boot_s(self, at: datetime) -> float:
        """The other way round."""
        return self._start + (at - self._anchor).total_seconds()
