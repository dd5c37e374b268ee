"""The ticks of the dispatcher's poll interval, of which only those come to pass at which something may be different."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from fleet.simulate.agenda import EPOCH, Agenda, Turn

MOMENT = timedelta(microseconds=1)


class Ticks:
    """When all look into the queues, and at which of those times the dispatcher passes too."""

    def __init__(self, agenda: Agenda, interval: timedelta, act: Callable[[], None]) -> None:
        """`act` is called at each tick that somebody asked for; it asks `take_pass`."""
        self._agenda, self._interval, self._act = agenda, interval, act
        self._tick_at: datetime | None = None
        self._is_ticking = False
        self._pass_at: datetime | None = None
        self._promised: set[datetime] = set()  # passes far off
        self._latest: datetime | None = None  # by then a pass is due, if there was none before
        self._wake_at: datetime | None = None  # when time alone changes the last plan

    @property
    def soon(self) -> datetime:
        """Not at this tick, but at the next."""
        return self._agenda.at + MOMENT

    def request_pass(self, at: datetime, *, is_after: bool = False) -> None:
        """A pass is due at the first tick from `at` on; `is_after`: after it, for deadlines that have to be exceeded."""
        # What a pass itself brings about is for the next one: two at one instant would share their id.
        at += MOMENT if is_after else timedelta(0)
        due = self._next_tick(max(at, self.soon) if self._is_ticking else at)
        if due <= self._next_tick(self.soon):
            self._pass_at = min(due, self._pass_at or due)
            self._tick(due)
        elif due not in self._promised:
            self._promised.add(due)
            self._agenda.add(due, partial(self._keep_promise, due))

    def request_pass_by(self, at: datetime) -> None:
        """A pass is due by then: any pass until then will do."""
        if self._latest is None or at < self._latest:
            self._latest = at
            self._agenda.add(at, partial(self._keep_the_latest, at))

    def wake_at(self, at: datetime | None) -> None:
        """When time alone changes the last plan. The next plan will say for itself."""
        if at != self._wake_at:
            self._wake_at = at
            if at is not None:
                self._agenda.add(max(at, self.soon), partial(self._wake, at))

    def _wake(self, at: datetime) -> None:
        if self._wake_at == at:
            self._wake_at = None
            self.request_pass(self._agenda.at)

    def request_tick(self) -> None:
        """At the next tick all look, and it is decided whether to pass. What changes meanwhile is seen at the one after it."""
        self._tick(self.soon if self._is_ticking else self._agenda.at)

    @property
    def is_pass_due(self) -> bool:
        """Somebody asked for a pass at this tick."""
        return self._pass_at is not None and self._pass_at <= self._agenda.at

    def take_pass(self, *, is_urgent: bool) -> bool:
        """Whether the dispatcher passes at this tick, because it is due or urgent. What was due is done with."""
        is_due = is_urgent or self.is_pass_due
        if is_due:
            self._pass_at = self._latest = None
        return is_due

    def _keep_promise(self, due: datetime) -> None:
        self._promised.discard(due)
        self.request_pass(due)

    def _keep_the_latest(self, at: datetime) -> None:
        if self._latest == at:
            self.request_pass(at)

    def _tick(self, at: datetime) -> None:
        due = self._next_tick(at)
        if self._tick_at is None or due < self._tick_at:
            self._tick_at = due
            self._agenda.add(due, self._on_tick, Turn.FLEET)

    def _next_tick(self, at: datetime) -> datetime:
        return EPOCH - (EPOCH - at) // self._interval * self._interval

    def _on_tick(self) -> None:
        if self._tick_at != self._agenda.at:
            return
        self._tick_at, self._is_ticking = None, True
        self._act()
        self._is_ticking = False
