"""Who gives this machine its orders: the dispatcher, or, where there is none, the machine's own file."""

from __future__ import annotations

from typing import Protocol

from fleet.wire import Enrolled, Heartbeat, Orders


class Superior(Protocol):
    """Answers heartbeats."""

    # It is another process: its answers are contact, and it may give hints.
    is_remote: bool

    def heartbeat(self, facts: Heartbeat) -> Orders:
        """Raises:
        CentreUnreachable: try again. CentreRefused: this machine is not wanted any more.
        """
        ...

    def hint(self, after: int) -> int:
        """Wait until there is a hint after this one, or a while; the newest. Asked of remote ones alone."""
        ...


class Alone:
    """The machine's own file as its superior: all is as it was at the start, and every ended run is known.

    It is no contact: only the ClearML server tells that a task may still be ours.
    """

    is_remote = False

    def __init__(self, enrolled: Enrolled) -> None:
        self._enrolled = enrolled

    def heartbeat(self, facts: Heartbeat) -> Orders:
        return Orders(
            drain=None,
            end=None,
            queues=self._enrolled.queues,
            idle_timeout=self._enrolled.idle_timeout,
            runs_seen=tuple(run.task for run in facts.runs if run.ended_at),
            hint=0,
            turns=self._enrolled.turns,
        )

    def hint(self, after: int) -> int:
        return after
