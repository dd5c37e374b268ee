"""What budgets need to know of the past, and the time that they leave a machine for its end."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from fleet.model import Budget, Instance, Spent
from fleet.planner.windows import BUDGET_ORDERS, STOP_GRACE, day_of, month_of
from fleet.store.base import ReadStore


class SpentFields(TypedDict, total=False):
    """Those of `Snapshot`."""

    spent_today: tuple[Spent, ...]
    spent_this_month: tuple[Spent, ...]


def spent(store: ReadStore, cluster: str, budget: Budget, at: datetime) -> SpentFields:
    """What is gone has cost, as far as a budget asks for it; intents and living machines are in the snapshot anyway."""
    budgets = (budget, *budget.queues.values(), *budget.users.values(), *filter(None, [budget.per_user]))
    found = SpentFields()
    if any(b.usd_per_day is not None for b in budgets):
        found["spent_today"] = store.spent_by_gone(cluster, day_of(at).start)
    if any(b.usd_per_month is not None for b in budgets):
        found["spent_this_month"] = store.spent_by_gone(cluster, month_of(at).start)
    return found


def is_given_time(instance: Instance, at: datetime) -> bool:
    """Ordered to end by a budget a moment ago: its edge stops the tasks and puts them back, then ends the machine itself."""
    if instance.terminate_requested_at is None or instance.enrolled_at is None or instance.end_reason is None:
        return False
    is_by_budget = instance.end_reason.code in BUDGET_ORDERS
    return is_by_budget and at < instance.terminate_requested_at + STOP_GRACE
