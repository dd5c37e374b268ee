"""What really ran, and where: noted where it happens, not where somebody was told of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.model import Offer


@dataclass(slots=True, kw_only=True)
class Life:
    """A machine as the cloud bills it."""

    instance: str
    offer: Offer
    launched_at: datetime
    ended_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One run of a task on a machine."""

    task: str
    instance: str
    gpus: float
    started_at: datetime
    ended_at: datetime | None = None
    is_complete: bool = False  # it ran to its own end


@dataclass(slots=True)
class Truth:
    """All that happened."""

    checkpoint: timedelta | None = None  # so often a task keeps what it has done; None: it loses all with its machine
    kept: dict[str, timedelta] = field(default_factory=dict)  # by task: what it need not do again
    lives: dict[str, Life] = field(default_factory=dict)  # by the intent's id
    attempts: list[Attempt] = field(default_factory=list)
    first_start: dict[str, datetime] = field(default_factory=dict)  # by task
    completed: set[str] = field(default_factory=set)
    running: Counter[str] = field(default_factory=Counter)  # attempts of a task that run now
    ran_twice_at_once: int = 0
    busy_kills: int = 0

    def start(self, attempt: Attempt) -> None:
        if self.running[attempt.task]:
            self.ran_twice_at_once += 1
        self.running[attempt.task] += 1
        self.attempts.append(attempt)
        self.first_start.setdefault(attempt.task, attempt.started_at)

    def end(self, attempt: Attempt, at: datetime, *, is_complete: bool = False) -> None:
        self.running[attempt.task] -= 1
        if not self.running[attempt.task]:
            del self.running[attempt.task]
        attempt.ended_at, attempt.is_complete = at, is_complete
        if self.checkpoint and not is_complete:
            done = (at - attempt.started_at) // self.checkpoint * self.checkpoint
            self.kept[attempt.task] = self.kept.get(attempt.task, timedelta(0)) + done
        if is_complete:
            self.completed.add(attempt.task)
