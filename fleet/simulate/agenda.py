"""Virtual time: a clock that jumps from one appointment to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import IntEnum

# A Monday, so that days and weeks of a simulation are whole ones.
EPOCH = datetime(2026, 1, 5, tzinfo=UTC)
# Later than every simulation ends, and far from where a datetime overflows.
NEVER = EPOCH + timedelta(days=365_000)


class Turn(IntEnum):
    """Who goes first at the same instant: what happens by itself, then those who look at it."""

    WORLD = 0
    FLEET = 1


class Agenda:
    """What will happen, in the order of time; ties in the order of their turns, then as they were made."""

    def __init__(self) -> None:
        self.at = EPOCH
        self._appointments: list[tuple[datetime, Turn, int, Callable[[], None]]] = []
        self._made = 0

    def now(self) -> datetime:
        return self.at

    def add(self, at: datetime, act: Callable[[], None], turn: Turn = Turn.WORLD) -> None:
        """`act` will be called at `at`, at once if that is past. There is no taking back: `act` asks itself whether it still holds."""
        self._made += 1
        heapq.heappush(self._appointments, (max(at, self.at), turn, self._made, act))

    def next_at(self) -> datetime | None:
        """When something happens next; None: never again."""
        return self._appointments[0][0] if self._appointments else None

    def step(self) -> None:
        """Let the next thing happen."""
        self.at, _, _, act = heapq.heappop(self._appointments)
        act()


def after(seconds: float) -> datetime:
    """So many seconds after the start of the simulation."""
    return EPOCH + timedelta(seconds=seconds)


def seconds(at: datetime) -> float:
    """The seconds from the start of the simulation until `at`."""
    return (at - EPOCH).total_seconds()
