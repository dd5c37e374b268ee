"""Hard limits, and what was spent of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fleet.model.wanted import Window


class WhenSpent(StrEnum):
    """What happens at the cap of a money budget."""

    HOLD = "hold"  # launch nothing more
    DRAIN = "drain"  # also pull no more tasks
    STOP = "stop"  # also end what runs, by a deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hard limits of the whole fleet, of one queue or of one user. None = no limit of that kind; days and months are UTC's."""

    max_instances: int | None = None
    usd_per_hour: float | None = None  # prices of all instances together
    usd_per_day: float | None = None
    usd_per_month: float | None = None
    when_spent: WhenSpent = WhenSpent.HOLD
    schedule: tuple[Window, ...] = ()  # as Resource.schedule, and so are the next two
    open_windows: tuple[int, ...] = ()
    opens_at: datetime | None = None
    # Of the fleet's budget only. An instance is paid by the queue and by the user that it was launched for.
    queues: Mapping[str, Budget] = field(default_factory=dict)  # by name
    per_user: Budget | None = None  # each user's, unless `users` names him
    users: Mapping[str, Budget] = field(default_factory=dict)

    @property
    def caps_usd(self) -> bool:
        """Whether money is limited here."""
        return (self.usd_per_hour, self.usd_per_day, self.usd_per_month) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What instances that are gone have cost, of those that were launched for one queue and one user."""

    queue: str | None
    user: str | None
    usd: float
