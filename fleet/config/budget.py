"""The budgets of a fleet file: `budget`, `queues.NAME.budget`, `budget.per_user` and `budget.users.NAME`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fleet.config.quantities import money
from fleet.config.schedule import read_schedule
from fleet.config.section import Section
from fleet.model import Budget, WhenSpent


def read_budget(part: Section) -> Budget:
    """The fleet's own, with those of its users, whose money ends as the fleet's does. Queues have theirs beside their other keys."""
    per_user = _limits(part.section("per_user"), is_whole=True) if part.has("per_user") else None
    users = {name: _limits(user, is_whole=True) for name, user in part.sections("users")}
    schedule = read_schedule(part, "max_instances")
    budget = read_limits(part)
    return replace(
        budget,
        schedule=schedule,
        per_user=replace(per_user, when_spent=budget.when_spent) if per_user else None,
        users={name: replace(user, when_spent=budget.when_spent) for name, user in users.items()},
    )


def read_limits(part: Section) -> Budget:
    """One budget by itself."""
    budget = replace(_limits(part), when_spent=part.choice("when_spent", WhenSpent, WhenSpent.HOLD))
    part.no_more()
    return budget


def _limits(part: Section, *, is_whole: bool = False) -> Budget:
    """`is_whole`: there is nothing else in this section."""
    budget = Budget(
        max_instances=part.whole("max_instances", None, at_least=1),
        usd_per_hour=part.positive("usd_per_hour", money, None),
        usd_per_day=part.positive("usd_per_day", money, None),
        usd_per_month=part.positive("usd_per_month", money, None),
    )
    if is_whole:
        part.no_more()
    return budget


def check_budgets(top: Section, budget: Budget) -> None:
    """A month that allows less than its day is a slip of the pen."""
    for path, part in _all(budget):
        day, month = part.usd_per_day, part.usd_per_month
        if day is not None and month is not None and month < day:
            top.wrong(f"{path}.usd_per_month", f"is {month:g}, less than one day of usd_per_day={day:g}")


def _all(budget: Budget) -> Iterator[tuple[str, Budget]]:
    yield "budget", budget
    if budget.per_user:
        yield "budget.per_user", budget.per_user
    yield from ((f"budget.users.{name}", part) for name, part in budget.users.items())
    yield from ((f"queues.{name}.budget", part) for name, part in budget.queues.items())
