"""What a supervisor knows beyond its own life: the journal and the consoles on disk, and who it is in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.model import Reason
from fleet.supervisor.agents import Agent
from fleet.supervisor.clock import Clock
from fleet.supervisor.contact import Contact
from fleet.supervisor.identity import Identity, Times
from fleet.supervisor.journal import Entry, Journal
from fleet.supervisor.spool import Spool

# Times are noted so often. They are noted late and never early: a deadline may come sooner after a restart, not later.
NOTE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Legacy:
    """One allocation of a supervisor before us."""

    entry: Entry
    spool: Spool
    agent: Agent | None  # None: it is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The times of a supervisor before us on our clock; now, where there was none."""

    enrolled_at: datetime
    server_at: datetime
    centre_at: datetime
    idle_since: datetime | None
    has_started_up: bool

    @classmethod
    def of(cls, times: Times | None, clock: Clock) -> Remembered:
        now = clock.now()
        if times is None:
            return cls(enrolled_at=now, server_at=now, centre_at=now, idle_since=now, has_started_up=False)
        return cls(
            enrolled_at=clock.at(times.enrolled_s),
            server_at=clock.at(times.server_s),
            centre_at=clock.at(times.centre_s),
            idle_since=clock.at(times.idle_s) if times.idle_s is not None else None,
            has_started_up=times.has_started_up,
        )


@dataclass(slots=True, kw_only=True)
class Memory:
    """Of one machine."""

    journal: Journal
    identity: Identity
    spools: Path
    times: Times | None = None  # as a supervisor before us had them
    legacies: tuple[Legacy, ...] = ()
    noted: Times | None = None

    def remember(
        self, clock: Clock, enrolled_at: datetime, seen: Contact, idle_since: datetime | None, *, has_started_up: bool
    ) -> None:
        """For the next supervisor: what the deadlines of this one are counted from."""
        since = clock.since_boot_s
        times = Times(
            enrolled_s=since(enrolled_at),
            server_s=since(seen.server_at),
            centre_s=since(seen.centre_at),
            idle_s=since(idle_since) if idle_since else None,
            has_started_up=has_started_up,
        )
        if self.noted is None or _has_moved(self.noted, times):
            self.noted = times
            self.identity.keep_times(times)

    def why_drain(self) -> Reason | None:
        """A machine that cannot note what it holds must hold nothing more; None: it can."""
        fault = self.journal.fault
        return Reason(code="journal_failed", text=fault) if fault else None

    def entry_count(self) -> int:
        """The highest number that an allocation had, so that none is used twice."""
        numbers = (legacy.entry.key.lstrip("a") for legacy in self.legacies)
        return max((int(n) for n in numbers if n.isdecimal()), default=0)


def _has_moved(before: Times, now: Times) -> bool:
    if (before.idle_s is None, before.has_started_up) != (now.idle_s is None, now.has_started_up):
        return True
    return max(now.server_s - before.server_s, now.centre_s - before.centre_s) >= NOTE_EVERY_S


def open_memory(directory: Path, identity: Identity) -> Memory:
    """Raises:
    OSError: the directory cannot be used.
    """
    spools = directory / "spool"
    spools.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Memory(journal=Journal(directory / "journal"), identity=identity, spools=spools, times=identity.times())
