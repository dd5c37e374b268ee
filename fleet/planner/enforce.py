"""What a budget orders of machines that run: `drain` lets those pull no more that it could not pay at worst, `stop` ends all
that it pays for while the money still lasts for their end. Both are taken back when there is money again."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet.model import CancelDrain, Drain, Instance, Reason, Snapshot, Terminate, WhenSpent
from fleet.planner.accounts import HOUR, NOTHING_USD, Account, Tally
from fleet.planner.frees import lasts
from fleet.planner.money import Money
from fleet.planner.price import known_price
from fleet.planner.steady import unsteady
from fleet.planner.windows import BUDGET_DRAIN, BUDGET_ORDERS, BUDGET_STOP, STOP_GRACE

# So long before money makes machines end they pull no more: what ends in time need not be repeated.
DRAIN_BEFORE_STOP = timedelta(minutes=10)


@dataclass(slots=True)
class Enforcement:
    """Orders of budgets, and when they will change."""

    ends: list[Terminate] = field(default_factory=list)
    drains: list[Drain] = field(default_factory=list)
    cancels: list[CancelDrain] = field(default_factory=list)
    wake_at: datetime | None = None

    def all(self) -> tuple[Terminate | Drain | CancelDrain, ...]:
        return (*self.ends, *self.drains, *self.cancels)

    def wake(self, at: datetime) -> None:
        self.wake_at = min(at, self.wake_at or at)


def may_order(snapshot: Snapshot) -> bool:
    """Whether budgets could order anything now. Most only hold; but what a former one ordered has to be taken back."""
    budget = snapshot.budget
    budgets = (budget, *budget.queues.values(), *budget.users.values(), *filter(None, [budget.per_user]))
    if any(b.caps_usd and b.when_spent is not WhenSpent.HOLD for b in budgets):
        return True
    return any([_is_by_budget(i) for i in unsteady(snapshot.instances) if i.drain_requested_at])  # noqa: C419 (in half the time)


def enforce(snapshot: Snapshot, money: Money, ending: Container[str]) -> Enforcement:
    """Orders for all that are not `ending` anyway."""
    made = Enforcement()
    drains: dict[str, Reason] = {}
    stops: dict[str, Reason] = {}
    paid_by = _paid_by(snapshot, money)
    for account in money.accounts.all():
        if account.when_spent is not WhenSpent.HOLD and account.budget.caps_usd:
            if _is_beyond(account) and account.when_spent is WhenSpent.DRAIN:
                made.wake(min((tally.window.end for tally in account.tallies), default=money.at + timedelta(days=1)))
            _drain_beyond(account, paid_by, money, drains if account.when_spent is WhenSpent.DRAIN else stops)
            for tally in account.tallies if account.when_spent is WhenSpent.STOP else ():
                _stop_in_time(account, tally, paid_by, money, made, drains, stops)
    for instance in snapshot.instances:
        if instance.id not in ending:
            _order(instance, drains.get(instance.id), stops.get(instance.id), snapshot, made)
    return made


def _paid_by(snapshot: Snapshot, money: Money) -> dict[str, list[Instance]]:
    """The instances of each account, by its key and name: the most urgent first, then the oldest."""
    rank = {queue.name: -queue.priority for queue in snapshot.queues}
    ordered = sorted(snapshot.instances, key=lambda i: (rank.get(i.reason.queue or "", 0), i.requested_at, i.id))
    found: dict[str, list[Instance]] = {}
    for instance in ordered:
        for account in money.accounts.of(instance.reason.queue, instance.reason.user):
            found.setdefault(account.name, []).append(instance)
    return found


def _drain_beyond(
    account: Account, paid_by: dict[str, list[Instance]], money: Money, orders: dict[str, Reason]
) -> None:
    """Whoever no longer fits: the cap was lowered, or what was lost came back. With `stop` that is about the hour alone."""
    is_stop = account.when_spent is WhenSpent.STOP
    code = BUDGET_STOP if is_stop else BUDGET_DRAIN
    tallies = () if is_stop else account.tallies
    if not _is_beyond(account):
        return
    rate, sums = 0.0, [[t.spent, 0.0] for t in tallies]
    for instance in paid_by.get(account.name, ()):
        price = known_price(instance.offer) or 0.0
        parts = [t.parts(price, instance.requested_at, money.at, money.ends_by(instance)) for t in tallies]
        over = [
            f"{t.what}={t.cap:g}"
            for t, (here, later), (_, ahead, after) in zip(tallies, sums, parts, strict=True)
            if here + ahead > t.cap + NOTHING_USD or later + after > t.cap + NOTHING_USD
        ]
        cap = account.budget.usd_per_hour
        if cap is not None and rate + price > cap + NOTHING_USD:
            over.insert(0, f"usd_per_hour={cap:g}")
        if over and price:
            limit = f"{account.key}.{over[0]}"
            text = f"{account.name} cannot pay for it to its end any more, by {limit}"
            orders.setdefault(instance.id, Reason(code=code, text=text, limit=limit))
            continue
        rate += price
        sums = [[here + p[1], later + p[2]] for (here, later), p in zip(sums, parts, strict=True)]


def _is_beyond(account: Account) -> bool:
    """A quick look: most often everything fits."""
    cap = account.budget.usd_per_hour
    if cap is not None and account.usd_per_hour > cap + NOTHING_USD:
        return True
    return account.when_spent is not WhenSpent.STOP and any(
        t.spent + t.committed > t.cap + NOTHING_USD or t.next > t.cap + NOTHING_USD for t in account.tallies
    )


def _stop_in_time(
    account: Account,
    tally: Tally,
    paid_by: dict[str, list[Instance]],
    money: Money,
    made: Enforcement,
    drains: dict[str, Reason],
    stops: dict[str, Reason],
) -> None:
    """All end when what is left just pays for their end; a while before they pull no more."""
    rate, at, end = account.usd_per_hour, money.at, tally.window.end
    if not rate:
        return
    if tally.spent + (end - at) / HOUR * rate <= tally.cap + NOTHING_USD:
        made.wake(end)  # the next window may not pay for so long
        return
    lasts_until = at + lasts(tally.cap - tally.spent, rate)
    stop_at = lasts_until - money.ends_within
    drain_at = stop_at - min(DRAIN_BEFORE_STOP, lasts(tally.cap, rate) / 6)
    limit = account.limit(tally.what, tally.cap)
    mine = [i for i in paid_by.get(account.name, ()) if known_price(i.offer)]
    if at >= stop_at:
        text = f"${tally.spent:.2f} of the ${tally.cap:.2f} that {limit} allows {account.name} are spent, and ending costs the rest"
        for instance in mine:
            stops.setdefault(instance.id, Reason(code=BUDGET_STOP, text=text, limit=limit))
        return
    made.wake(stop_at)
    if at < drain_at:
        made.wake(drain_at)
        return
    text = f"the money of {account.name} lasts until {lasts_until:%H:%M} UTC by {limit}; it ends at {stop_at:%H:%M}"
    for instance in mine:
        drains.setdefault(instance.id, Reason(code=BUDGET_DRAIN, text=text, limit=limit))


def _order(
    instance: Instance, drain: Reason | None, stop: Reason | None, snapshot: Snapshot, made: Enforcement
) -> None:
    """Turn what is wanted of one instance into what has to change for it."""
    at = snapshot.at
    if ordered_at := instance.terminate_requested_at:
        if _is_by_budget(instance) and instance.enrolled_at and not instance.goodbye_at:
            made.wake(max(ordered_at + STOP_GRACE, at + snapshot.poll_interval))
    elif stop and (instance.goodbye_at or not instance.cloud_id):
        # An intent ends when the cloud has said what became of it: its machine may run, and nobody could name it.
        made.wake(at + snapshot.poll_interval)
    elif stop:
        made.ends.append(Terminate(instance=instance.id, reason=stop))
    elif drain and not instance.drain_requested_at and not instance.goodbye_at:
        made.drains.append(Drain(instance=instance.id, reason=drain))
    elif not drain and instance.drain_requested_at and _is_by_budget(instance) and not instance.goodbye_at:
        reason = Reason(code="budget_again", text="there is money for it again", limit=_limit(instance))
        made.cancels.append(CancelDrain(instance=instance.id, reason=reason))


def _is_by_budget(instance: Instance) -> bool:
    return instance.end_reason is not None and instance.end_reason.code in BUDGET_ORDERS


def _limit(instance: Instance) -> str | None:
    return instance.end_reason.limit if instance.end_reason else None


def staying(instances: Sequence[Instance], made: Enforcement, ending: Collection[str]) -> Sequence[Instance]:
    """The instances that neither end nor drain, as they are once they have heard these orders: with room for tasks again."""
    again = {c.instance for c in made.cancels}
    leaving = {end.instance for end in made.ends} | {drain.instance for drain in made.drains} | {*ending}
    if not again and not leaving:
        return instances
    return [
        replace(i, drain_requested_at=None, stopped_pulling_at=None) if i.id in again else i
        for i in instances
        if i.id in again or i.id not in leaving
    ]
