"""The time of the centre: it follows the clock of its host, but a clock that is set by an hour is no hour that passed.

Deadlines, budgets and the lead compare times that were taken minutes or days apart. On a host whose clock jumps they would end machines
that are well, or count dollars that nobody spent, or none where some were: docs/adr/0041-steady-clock.md.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

log = logging.getLogger(__name__)

# How fast it follows: forward, deadlines come a tenth early at worst; back, a budget may be exceeded by a hundredth at worst.
FORWARD, BACK = 0.10, 0.01
# Off by more than this, one of the two was nonsense, and to follow would take days: the host's is believed at once.
STEP = timedelta(hours=12)
# Off by so much it is told, once.
LOUD = timedelta(seconds=30)
# So long without this process noticing: the host slept.
SLEPT_S = 5.0


def _wall() -> datetime:
    return datetime.now(UTC)


def _since_boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """Call it for the time, aware UTC, from any thread. Without jumps it is the host's; it goes back only by a step."""

    def __init__(
        self,
        wall: Callable[[], datetime] = _wall,
        since_boot_s: Callable[[], float] = _since_boot_s,  # counts sleep, cannot be set
        awake_s: Callable[[], float] = time.monotonic,  # does not count sleep, cannot be set
    ) -> None:
        self._wall, self._since_boot_s, self._awake_s = wall, since_boot_s, awake_s
        self._lock = threading.Lock()
        self._at, self._boot, self._awake = wall(), since_boot_s(), awake_s()
        self._is_loud = False
        self._woken_at: datetime | None = None

    def __call__(self) -> datetime:
        with self._lock:
            boot, awake, wall = self._since_boot_s(), self._awake_s(), self._wall()
            passed = timedelta(seconds=max(boot - self._boot, 0.0))
            expected = self._at + passed
            off = wall - expected
            if abs(off) > STEP:
                self._at = wall
            else:
                self._at = expected + min(max(off, -BACK * passed), FORWARD * passed)
            self._tell(off)
            if abs(off) > STEP or (boot - self._boot) - (awake - self._awake) > SLEPT_S:
                self._woken_at = self._at
            self._boot, self._awake = boot, awake
            return self._at

    def woken_at(self) -> datetime | None:
        """When the host last woke from sleep, or the time was stepped. Nobody could be heard until then."""
        self()
        return self._woken_at

    def _tell(self, off: timedelta) -> None:
        is_loud = abs(off) > LOUD
        if is_loud and not self._is_loud:
            log.warning(
                "this host's clock was set; fleet follows slowly, restart it to follow at once",
                extra={"off_by_s": round(off.total_seconds())},
            )
        self._is_loud = is_loud
