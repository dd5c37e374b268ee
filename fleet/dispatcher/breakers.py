"""The breakers that are open, as pauses for the planner, alerts for the operator, and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.dispatcher.history import History
from fleet.model import Backoff, Event, Instance, Reason
from fleet.planner.breaker import Breaker, judge, judge_fleet
from fleet.store.base import Store

RESET = "breaker.reset"
WHILE_PROBED = timedelta(hours=1)  # judged anew at each pass: any time that is longer than one


@dataclass(slots=True)
class Breakers:
    """Judged at each pass from the history of machines. What is kept here is only what was said already."""

    store: Store
    history: History
    open: tuple[Breaker, ...] = ()
    _told: dict[str | None, Breaker] = field(default_factory=dict)

    def run(self, live: Sequence[Instance], at: datetime) -> tuple[Backoff, ...]:
        """The pauses of the open ones; opening and closing is told."""
        pauses = self.look(live, at)
        self._tell(at)
        return pauses

    def look(self, live: Sequence[Instance], at: datetime) -> tuple[Backoff, ...]:
        """As `run`, and nobody is told: for `fleet plan`."""
        self.open = self._judged(live, at)
        return tuple(_pause(breaker, at) for breaker in self.open)

    @property
    def alerts(self) -> tuple[Reason, ...]:
        return tuple(_reason(breaker) for breaker in self.open)

    def _judged(self, live: Sequence[Instance], at: datetime) -> tuple[Breaker, ...]:
        # Most passes: no failures in a row, and nobody need look at the machines that are there.
        suspects = [name for name, gone in self.history.lately.items() if judge(gone, at)]
        if not suspects:
            return ()
        resets = self._resets()
        trials = self.history.trials(live, at)
        opened = [b for name in suspects if (b := judge(trials[name], at, resets.get(f"resources.{name}")))]
        fleet = judge_fleet([t for several in trials.values() for t in several], opened)
        return (*opened, *([fleet] if fleet else []))

    def _resets(self) -> dict[str, datetime]:
        """When an operator last closed the breaker of each resource."""
        return {e.reason.limit or "": e.at for e in self.store.events(kind=RESET) if e.reason}

    def _tell(self, at: datetime) -> None:
        now = {b.resource: b for b in self.open}
        events = [
            Event(at=at, kind="breaker.opened", text=_reason(b).text, reason=_reason(b))
            for name, b in now.items()
            if name not in self._told
        ]
        events += [
            Event(
                at=at,
                kind="breaker.closed",
                text=f"{_name(b)} is launched again: a machine works, or an operator said so",
            )
            for name, b in self._told.items()
            if name not in now
        ]
        if events:
            self.store.append_events(events)
        self._told = now


def _pause(breaker: Breaker, at: datetime) -> Backoff:
    """Open: nothing. Half-open: one machine. While that is being tried: nothing."""
    is_probing = breaker.is_half_open(at)
    until = at + WHILE_PROBED if breaker.probe else breaker.until
    return Backoff(
        resource=breaker.resource, until=until, reason=_reason(breaker), times=breaker.failures, is_probing=is_probing
    )


def _reason(breaker: Breaker) -> Reason:
    then = (
        f"instance {breaker.probe} finds out whether that has changed"
        if breaker.probe
        else f"one machine is tried at {breaker.until:%d %b %H:%M:%S} UTC"
    )
    mend = f"mend the cause, then: fleet breaker reset {breaker.resource}" if breaker.resource else "mend the cause"
    text = (
        f"the breaker of {_name(breaker)} is open since {breaker.opened_at:%d %b %H:%M:%S} UTC: {breaker.failures} machines in "
        f"a row did no work, last: {breaker.cause}; {then}; {mend}"
    )
    return Reason(code="breaker", text=text, limit=f"resources.{breaker.resource}" if breaker.resource else "the fleet")


def _name(breaker: Breaker) -> str:
    return f"resource {breaker.resource}" if breaker.resource else "the whole fleet"
