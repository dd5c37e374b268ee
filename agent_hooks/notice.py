"""What a cloud says of this machine's end, in words that are the same for every cloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

Now = Callable[[], datetime]  # aware, UTC


class NoticeKind(StrEnum):
    PREEMPTION = "preemption"  # the cloud takes this machine back within minutes
    REBALANCE = "rebalance"  # it is likely to, nobody knows when
    MAINTENANCE = "maintenance"  # it will be stopped, moved or restarted at a known time, or soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One warning. `deadline` is this machine's clock's, whatever that clock shows."""

    kind: NoticeKind
    at: datetime  # when it was first seen here
    deadline: datetime | None  # None: nobody knows
    text: str  # one sentence for people


class Watch(Protocol):
    """One question to a cloud, asked again and again by a thread of its own."""

    def look(self) -> tuple[Notice, ...]:
        """All notices that stand now. Blocks for seconds, up to a minute. What cannot be asked or read changes nothing;
        never raises."""
        ...
