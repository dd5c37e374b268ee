"""When this machine last was in contact: what the fencing deadline is counted from.

The centre counts the silence of a machine from the moment that it heard it, so the edge counts from before it asked: an answer
that was long on its way must not let a task run on when it is given to others. A hint is no contact: the centre hears nothing by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

# The end of a task that is fenced may take no longer, whatever its grace is otherwise: with this the last of it is gone
# before the centre gives it away (planner.reaper.CONTACT_LOST_AFTER, 180 s; `contact_timeout` is 120 s).
FENCED_GRACE = timedelta(seconds=30)


@dataclass(slots=True)
class Contact:
    """When those were asked who answered. Written by the threads that asked."""

    server_at: datetime
    centre_at: datetime

    def server_answered(self, asked_at: datetime) -> None:
        self.server_at = max(self.server_at, asked_at)

    def centre_answered(self, asked_at: datetime) -> None:
        self.centre_at = max(self.centre_at, asked_at)

    def is_overdue(self, at: datetime, timeout: timedelta) -> bool:
        return at - max(self.server_at, self.centre_at) >= timeout


def grace(code: str, usual: timedelta) -> timedelta:
    """How long a task may take to end itself when it is stopped for this reason."""
    return min(usual, FENCED_GRACE) if code == "contact_lost" else usual
