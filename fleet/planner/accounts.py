"""Who pays for an instance: the fleet, the queue and the user that it was launched for, each with a budget of its own.

An account knows what its budget has lost already and what it is bound to pay at worst; `refusal` and `enforce` are rules on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from fleet.model import Budget, Spent, WhenSpent
from fleet.planner.windows import Window

HOUR = timedelta(hours=1)
# What adding and taking away leaves of a float is no dollar.
NOTHING_USD = 1e-6


@dataclass(slots=True)
class Tally:
    """One cap in one window, US dollars."""

    kind: Literal["day", "month"]
    window: Window
    cap: float
    spent: float = 0.0  # until now
    committed: float = 0.0  # from now to the end of the window, at worst
    next: float = 0.0  # in any later window, at worst
    # Worked out where somebody asks: how many instances are in it, US dollars in the next window, and in any after that.
    following: tuple[int, float, float] = (0, 0.0, 0.0)

    @property
    def what(self) -> str:
        """The key of its cap."""
        return f"usd_per_{self.kind}"

    def add(self, price: float, since: datetime, at: datetime, until: datetime | None) -> None:
        """One more machine: billed since then, alive until then at the latest; None: perhaps for ever."""
        spent, committed, later = self.parts(price, since, at, until)
        self.spent, self.committed, self.next = self.spent + spent, self.committed + committed, self.next + later

    def parts(self, price: float, since: datetime, at: datetime, until: datetime | None) -> tuple[float, float, float]:
        """What such a machine has cost, may cost in this window, and may cost in a later one."""
        window = self.window
        ahead = window.end - at if until is None else window.overlap(at, until)
        later = window.longest if until is None else min(max(until - window.end, timedelta(0)), window.longest)
        return window.overlap(since, at) / HOUR * price, ahead / HOUR * price, later / HOUR * price


@dataclass(slots=True)
class Account:
    """One budget: how many instances it pays for, what they cost an hour, and its windows."""

    key: str  # in the fleet file: "budget", "queues.train.budget", "budget.per_user"
    name: str  # for people: "the fleet", "queue train", "user ann"
    budget: Budget
    tallies: tuple[Tally, ...]
    instances: int = 0
    usd_per_hour: float = 0.0
    unpriced: str | None = None  # an offer whose price nobody knows, and that is paid from here
    # Of its instances: their price, and when they end at the latest; None: nobody can say.
    paid: list[tuple[float, datetime | None]] = field(default_factory=list)

    @property
    def when_spent(self) -> WhenSpent:
        return self.budget.when_spent

    @property
    def is_fleet(self) -> bool:
        return self.key == "budget"

    def limit(self, what: str, cap: float) -> str:
        return f"{self.key}.{what}={cap:g}"


class Accounts:
    """Those that there are budgets for, made when they are first asked for."""

    def __init__(self, budget: Budget, day: Window, month: Window, today: Sequence[Spent], this_month: Sequence[Spent]):
        self._budget, self._windows = budget, {"day": day, "month": month}
        self._spent = {"day": today, "month": this_month}
        self._found: dict[tuple[str | None, str | None], tuple[Account, ...]] = {}
        self._by_key: dict[tuple[str, str], Account] = {}
        self._fleet = self._account("budget", "the fleet", budget, None, None)

    def of(self, queue: str | None, user: str | None) -> tuple[Account, ...]:
        """Everybody who pays for an instance launched for this queue and this user; narrowest last."""
        key = queue, user
        if key not in self._found:
            self._found[key] = (self._fleet, *self._of_queue(queue), *self._of_user(user))
        return self._found[key]

    def all(self) -> tuple[Account, ...]:
        """That were asked for."""
        return (self._fleet, *self._by_key.values())

    def _of_queue(self, queue: str | None) -> tuple[Account, ...]:
        budget = self._budget.queues.get(queue) if queue else None
        if queue is None or budget is None:
            return ()
        key = ("queue", queue)
        if key not in self._by_key:
            self._by_key[key] = self._account(f"queues.{queue}.budget", f"queue {queue}", budget, queue, None)
        return (self._by_key[key],)

    def _of_user(self, user: str | None) -> tuple[Account, ...]:
        own = self._budget.users.get(user) if user else None
        budget = own or self._budget.per_user
        if user is None or budget is None:
            return ()
        key = ("user", user)
        if key not in self._by_key:
            path = f"budget.users.{user}" if own else "budget.per_user"
            self._by_key[key] = self._account(path, f"user {user or '(unnamed)'}", budget, None, user)
        return (self._by_key[key],)

    def _account(self, path: str, name: str, budget: Budget, queue: str | None, user: str | None) -> Account:
        tallies = []
        caps: tuple[tuple[Literal["day", "month"], float | None], ...] = (
            ("day", budget.usd_per_day),
            ("month", budget.usd_per_month),
        )
        for kind, cap in caps:
            if cap is not None:
                spent = sum(s.usd for s in self._spent[kind] if queue in (None, s.queue) and user in (None, s.user))
                tallies.append(Tally(kind, self._windows[kind], cap, spent))
        return Account(path, name, budget, tuple(tallies))
