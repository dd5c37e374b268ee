"""Hard budgets (promise P2): what one more machine would cost at worst, and why that is too much. See docs/adr/0011.

A machine is counted from its intent until the cloud can no longer bill it. With `hold` and `drain` nobody ends what runs, so
at worst it runs to its maximum lifetime, or for ever; with `stop` it is ended in time, so money has to last for a while and
for the time that an end takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fleet.model import Instance, Offer, Reason, Snapshot, WhenSpent
from fleet.planner.accounts import HOUR, NOTHING_USD, Account, Accounts, Tally
from fleet.planner.frees import frees_at, lasts
from fleet.planner.price import known_price
from fleet.planner.reaper import GOODBYE_GRACE, LIFETIME_GRACE
from fleet.planner.windows import day_of, month_of, time_to_end

# With `stop`, nothing is launched that the money would not let run so long together with all that runs; or, if that is less,
# half of the time that the whole budget pays for such a machine. Many that are soon ended finish less than a few that are not.
RUNWAY = timedelta(hours=2)

UNKNOWN = datetime.max.replace(tzinfo=UTC)


class Refusal(NamedTuple):
    """Why something may not be launched, and until when at the latest; UNKNOWN: time alone changes nothing, or nobody can say."""

    until: datetime
    reason: Reason


def has_budgets(snapshot: Snapshot) -> bool:
    """Whether anything but the fleet's number of instances is limited."""
    budget = snapshot.budget
    return budget.caps_usd or bool(budget.queues) or budget.per_user is not None or bool(budget.users)


class Money:
    """All budgets, with everything that is not gone on their accounts."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.at = at = snapshot.at
        self.ends_within = time_to_end(snapshot.poll_interval)
        self.accounts = Accounts(
            snapshot.budget, day_of(at), month_of(at), snapshot.spent_today, snapshot.spent_this_month
        )
        self.wake_at: datetime | None = (
            None  # when something that was refused becomes possible, if nothing else happens
        )
        self._resources = {r.name: r for r in snapshot.resources}
        for instance in snapshot.instances:
            reason = instance.reason
            self._add(instance.offer, reason.queue, reason.user, instance.requested_at, self.ends_by(instance))

    def launch(self, offer: Offer, queue: str | None, user: str | None) -> None:
        """Commit one more instance."""
        self._add(offer, queue, user, self.at, self._launched_ends_by(offer))

    def ends_by(self, instance: Instance) -> datetime | None:
        """When the cloud bills it no more, at the latest; None: nobody can say."""
        if instance.terminate_requested_at:
            return self.at + self.ends_within
        if instance.goodbye_at:
            return self.at + GOODBYE_GRACE + self.ends_within
        resource = self._resources.get(instance.resource)
        if resource is None or resource.max_lifetime is None:
            return None
        return max(instance.requested_at + resource.max_lifetime + LIFETIME_GRACE, self.at) + self.ends_within

    def refusal(self, offer: Offer, queue: str | None, user: str | None) -> Reason | None:
        """Why one more of `offer` could exceed a budget; None: it cannot. Of several reasons the one that lasts longest."""
        last: Refusal | None = None
        for refusal in self._refusals(offer, queue, user):
            if last is None or refusal.until > last.until:
                last = refusal
            if last.until == UNKNOWN:
                break
        return last.reason if last else None

    def horizon(self, price: float, cap: float) -> timedelta:
        """How long money has to last with `stop`, so that one more of such a price makes sense."""
        return self.ends_within + min(RUNWAY, lasts(cap, price) / 2)

    def _add(self, offer: Offer, queue: str | None, user: str | None, since: datetime, until: datetime | None) -> None:
        price = known_price(offer)
        for account in self.accounts.of(queue, user):
            account.instances += 1
            if price is None:
                account.unpriced = f"{offer.type} ({offer.resource})"
                continue
            account.usd_per_hour += price
            account.paid.append((price, until))
            for tally in account.tallies:
                tally.add(price, since, self.at, until)

    def _launched_ends_by(self, offer: Offer) -> datetime | None:
        lifetime = self._lifetime(offer)
        return None if lifetime is None else self.at + lifetime

    def _lifetime(self, offer: Offer) -> timedelta | None:
        """How long one that is launched now may cost money at worst."""
        resource = self._resources[offer.resource]
        return None if resource.max_lifetime is None else resource.max_lifetime + LIFETIME_GRACE + self.ends_within

    # --- refusals

    def _refusals(self, offer: Offer, queue: str | None, user: str | None) -> Iterator[Refusal]:
        for account in self.accounts.of(queue, user):
            if reason := self._refusal_of(account, offer):
                yield Refusal(UNKNOWN, reason)
            elif account.tallies and (price := known_price(offer)) is not None:
                windows = (self._over_the_window(account, tally, offer, price) for tally in account.tallies)
                yield from (refusal for refusal in windows if refusal)

    def _refusal_of(self, account: Account, offer: Offer) -> Reason | None:
        """By a cap that is not about a window."""
        budget = account.budget
        if not account.is_fleet and budget.max_instances is not None and account.instances >= budget.max_instances:
            limit = account.limit("max_instances", budget.max_instances)
            noun = "instance" if account.instances == 1 else "instances"
            text = f"{account.name} has {account.instances} {noun}, the most that {account.key}.max_instances allows"
            return Reason(code="max_instances", text=text, limit=limit)
        if not budget.caps_usd:
            return None
        price = known_price(offer)
        if price is None or account.unpriced:
            return _unpriced(account, account.unpriced or f"{offer.type} ({offer.resource})")
        if budget.usd_per_hour is not None and account.usd_per_hour + price > budget.usd_per_hour + NOTHING_USD:
            return _over_the_hour(account, offer.type, price, budget.usd_per_hour)
        return None

    def _over_the_window(self, account: Account, tally: Tally, offer: Offer, price: float) -> Refusal | None:
        needs, needs_later = self._needs(account, tally, offer, price)
        if needs <= tally.cap - tally.spent + NOTHING_USD and needs_later <= tally.cap + NOTHING_USD:
            return None
        is_stop = account.when_spent is WhenSpent.STOP
        alone = self.horizon(price, tally.cap) if is_stop else self._lifetime(offer)
        longest = tally.window.longest if alone is None else min(alone, tally.window.longest)
        at: datetime | None = None
        if longest / HOUR * price <= tally.cap + NOTHING_USD:
            is_by_end = is_stop and needs_later > tally.cap + NOTHING_USD
            at = None if is_by_end else frees_at(account, tally, price, self._lifetime(offer), self.at)
            look_at = at or tally.window.end
            self.wake_at = min(look_at, self.wake_at or look_at)
            when = f"frees at {at:%Y-%m-%d %H:%M} UTC at the latest" if at else "frees when an instance ends"
            text = f"{when}, or raise {account.key}.{tally.what}"
        else:
            text = _never(account, tally, offer, price, is_stop)
        said = _worst(tally, offer, price, needs, needs_later, is_stop)
        limit = account.limit(tally.what, tally.cap)
        text = f"{said} {account.name} may spend by {limit}; {text}"
        return Refusal(at or UNKNOWN, Reason(code=tally.what, text=text, limit=limit))

    def _needs(self, account: Account, tally: Tally, offer: Offer, price: float) -> tuple[float, float]:
        """US dollars that must be there for all that live and one more: in this window, and in any later one."""
        if account.when_spent is WhenSpent.STOP:
            rate = account.usd_per_hour + price
            horizon = self.horizon(price, tally.cap)
            left = min(horizon, tally.window.end - self.at)
            return left / HOUR * rate, horizon / HOUR * rate
        _, ahead, later = tally.parts(price, self.at, self.at, self._launched_ends_by(offer))
        return tally.committed + ahead, tally.next + later


def _unpriced(account: Account, offer: str) -> Reason:
    caps = {"usd_per_hour": account.budget.usd_per_hour} | {t.what: t.cap for t in account.tallies}
    what, cap = next((what, cap) for what, cap in caps.items() if cap is not None)
    text = f"the price of {offer} is unknown, so a budget in dollars cannot be kept"
    return Reason(code="price_unknown", text=text, limit=account.limit(what, cap))


def _over_the_hour(account: Account, type: str, price: float, cap: float) -> Reason:
    text = (
        f"{type} costs ${price:.2f} an hour; ${account.usd_per_hour:.2f} of the ${cap:.2f} that "
        f"{'the budget' if account.is_fleet else f'the budget of {account.name}'} allows are committed"
    )
    return Reason(code="usd_per_hour", text=text, limit=account.limit("usd_per_hour", cap))


def _worst(tally: Tally, offer: Offer, price: float, needs: float, needs_later: float, is_stop: bool) -> str:
    """What is there and what this one would add, in words up to the sum that is allowed."""
    one = f"one more {offer.type} ({offer.resource}, ${price:.2f} an hour)"
    if needs <= tally.cap - tally.spent + NOTHING_USD:
        return f"with {one}, the next {tally.kind} could cost ${needs_later:.2f} of ${tally.cap:.2f} that"
    how = "needs" if is_stop else "could cost, with all that runs,"
    this = "today" if tally.kind == "day" else "this month"
    return f"{one} {how} ${needs:.2f} more, and ${tally.spent:.2f} are spent {this} of ${tally.cap:.2f} that"


def _never(account: Account, tally: Tally, offer: Offer, price: float, is_stop: bool) -> str:
    """Waiting does not help: what would."""
    cap = f"{account.key}.{tally.what}"
    if is_stop:
        return f"that is too little for one such machine to boot and to end: raise {cap}, or offer a cheaper type"
    hours = tally.cap / price
    set_when = f"{account.key if account.key.startswith('queues.') else 'budget'}.when_spent: stop"
    if hours < 1:
        return f"never, because nobody ends what runs: set {set_when}, or raise {cap}"
    return (
        f"never, because nobody ends what runs: set resources.{offer.resource}.max_lifetime (less than {hours:.1f}h pays), "
        f"or {set_when}, or raise {cap}"
    )
