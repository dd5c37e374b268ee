"""Asks the cloud for notices, each question by a thread of its own; what changes is an event."""

from __future__ import annotations

import logging
import threading
from datetime import datetime

from agent_hooks import notice as sensed
from agent_hooks.hooks import Moment
from agent_hooks.notice import NoticeKind, Watch
from fleet.model import Notice
from fleet.supervisor.clock import Clock
from fleet.supervisor.errands import Report
from fleet.supervisor.events import Noticed
from fleet.supervisor.moments import Moments

log = logging.getLogger(__name__)

# What is told where several stand: a machine that is taken back in two minutes need not care for next week.
MOST_URGENT = (NoticeKind.PREEMPTION, NoticeKind.MAINTENANCE, NoticeKind.REBALANCE)


class Listening:
    """What all watches of this machine say. `steps` are for the threads' loops."""

    def __init__(self, watches: tuple[Watch, ...], clock: Clock, report: Report) -> None:
        self._clock, self._report = clock, report
        self.standing: Notice | None = None  # the most urgent one, as the main thread knows it
        self._lock = threading.Lock()
        self._heard: list[tuple[sensed.Notice, ...]] = [() for _ in watches]
        self._told: sensed.Notice | None = None
        self.steps = [lambda i=i, watch=watch: self._step(i, watch) for i, watch in enumerate(watches)]

    def on_noticed(self, notice: Notice | None, moments: Moments) -> None:
        """Called by the main thread: from now on this stands."""
        self.standing = notice
        text = notice.text if notice else "all notices were taken back"
        log.warning("notice", extra={"kind": notice.kind if notice else "none", "why": text})
        if notice:
            moments.tell(Moment.NOTICE, {"FLEET_REASON": text})

    def _step(self, index: int, watch: Watch) -> None:
        heard = watch.look()
        with self._lock:
            self._heard[index] = heard
            standing = [notice for each in self._heard for notice in each]
            first = min(standing, key=lambda notice: MOST_URGENT.index(notice.kind), default=None)
            # A preemption is never taken back: tasks have been told already.
            if first == self._told or (self._told and self._told.kind is NoticeKind.PREEMPTION):
                return
            self._told = first
            self._report(Noticed(notice=told(first, self._clock.now()) if first else None))


def told(notice: sensed.Notice, now: datetime) -> Notice:
    """By the supervisor's clock, which does not jump when the machine's is set right."""
    left = notice.deadline - notice.at if notice.deadline else None
    return Notice(kind=notice.kind.value, at=now, deadline=now + left if left is not None else None, text=notice.text)
