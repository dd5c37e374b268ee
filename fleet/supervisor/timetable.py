"""When each of the recurring calls is due next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta


class Timetable:
    """All are due at once in the beginning."""

    def __init__(self, names: Iterable[str], now: datetime) -> None:
        self._due = dict.fromkeys(names, now)
        self._taken: dict[str, datetime] = {}

    def hurry(self, name: str, now: datetime, at_most_every: timedelta = timedelta(0)) -> None:
        """Make it due now, or as soon after the last time as it may be repeated."""
        soonest = max(now, self._taken.get(name, now - at_most_every) + at_most_every)
        self._due[name] = min(self._due[name], soonest)

    def put_off(self, name: str, until: datetime) -> None:
        """It is not due before then."""
        self._due[name] = max(self._due[name], until)

    def take(self, name: str, now: datetime, every: timedelta) -> bool:
        """Is it due? Then it is done now, and due again after `every`."""
        if now < self._due[name]:
            return False
        self._taken[name], self._due[name] = now, now + every
        return True

    def due(self) -> Iterable[tuple[str, datetime]]:
        return self._due.items()
