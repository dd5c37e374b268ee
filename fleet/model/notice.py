"""The cloud's warning that it takes a machine back, as a machine tells its dispatcher."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class OnRebalance(StrEnum):
    """What a machine does when its cloud says that it is likely to be taken back."""

    DRAIN = "drain"  # pulls no more, lets its tasks end, then ends
    REQUEUE = "requeue"  # as if it was taken back: its tasks are put back and go on elsewhere
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One warning. `kind` is "preemption", "rebalance" or "maintenance"; more may come."""

    kind: str
    at: datetime
    deadline: datetime | None  # None: nobody knows
    text: str
