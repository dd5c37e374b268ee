"""PURE: what a supervisor may decide to do (`fleet.supervisor.decide`); the loop and the simulator carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fleet.model import Reason, RunResult, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Take this task out of its queue and run it on these GPUs (uuids)."""

    task: Task
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPulling:
    """Take no more tasks."""

    reason: Reason
    is_for_good: bool = True  # False: until the order to drain is taken back


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePulling:
    """Take tasks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTask:
    """End the processes of a task that is held, then tell the server what it came to."""

    task: str
    reason: Reason
    then: RunResult | None  # None: the server knows better already, its status was changed by somebody else
    # It may save itself until then, and goes on elsewhere from what it saved. None: it has the usual grace.
    kill_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndMachine:
    """Nothing is held: say goodbye and end this machine."""

    reason: Reason


Instruction = Claim | StopPulling | ResumePulling | StopTask | EndMachine
