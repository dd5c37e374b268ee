"""The calendar of budgets, days and months of UTC; and how long it takes to end a machine, for whom money has to last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

# Codes of orders that a budget gives. Tasks that such an order puts back have done nothing wrong.
BUDGET_DRAIN = "budget_drain"
BUDGET_STOP = "budget_stop"
BUDGET_ORDERS = (BUDGET_DRAIN, BUDGET_STOP)
# From the order to end until the cloud is told: time for the edge to stop its tasks and to put them back.
STOP_GRACE = timedelta(seconds=30)
# From then until the cloud bills no more: calls that have to be repeated, and what the cloud itself needs.
CLOUD_ENDS_WITHIN = timedelta(seconds=90)


class Window(NamedTuple):
    """One day or month."""

    start: datetime
    end: datetime
    longest: timedelta  # no window of this kind is longer

    def overlap(self, start: datetime, end: datetime) -> timedelta:
        """How much of the time between the two lies in it."""
        return max(min(end, self.end) - max(start, self.start), timedelta(0))


def day_of(at: datetime) -> Window:
    start = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Window(start, start + timedelta(days=1), timedelta(days=1))


def month_of(at: datetime) -> Window:
    start = day_of(at).start.replace(day=1)
    return Window(start, (start + timedelta(days=31)).replace(day=1), timedelta(days=31))


def time_to_end(poll_interval: timedelta) -> timedelta:
    """How long a machine may cost money after the pass that ordered its end."""
    return STOP_GRACE + CLOUD_ENDS_WITHIN + 4 * poll_interval
