"""How long to leave an offer alone after it failed: doubling per (resource, type, zone, market), by class of error (P8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.errors import BadRequest, NoCapacity, NotAuthorised, ProviderError, QuotaExceeded, Throttled
from fleet.model import Backoff, Market, Offer, Reason

Key = tuple[str, str, str | None, Market]

FIRST = {  # the first pause after an error of this class
    NoCapacity: timedelta(seconds=30),
    Throttled: timedelta(seconds=5),
    QuotaExceeded: timedelta(minutes=10),
    BadRequest: timedelta(minutes=1),
    NotAuthorised: timedelta(minutes=1),
}
FIRST_OF_UNKNOWN = timedelta(seconds=10)
LONGEST = timedelta(minutes=30)
LOUD_AFTER = 3  # failures in a row: no longer bad luck


@dataclass(slots=True)
class Backoffs:
    """The pauses that are in force. In memory: after a restart an offer is tried once more, which is all it costs."""

    failures: dict[Key, int] = field(default_factory=dict)
    failed_at: dict[Key, datetime] = field(default_factory=dict)
    paused: dict[Key, Backoff] = field(default_factory=dict)

    def fail(self, offer: Offer, error: ProviderError, at: datetime) -> None:
        """This offer failed at `at`: pause it, twice as long as the last time."""
        key = _key(offer)
        count = self.failures[key] = self.failures.get(key, 0) + 1
        self.failed_at[key] = at
        first = next((pause for kind, pause in FIRST.items() if isinstance(error, kind)), FIRST_OF_UNKNOWN)
        until = at + min(first * 2 ** min(count - 1, 16), LONGEST)
        where = f"{offer.type} in {offer.zone or offer.region or offer.provider} ({offer.market})"
        text = f"{where} failed {count} times, last: {error}; next try at {until:%H:%M:%S} UTC"
        reason = Reason(code="backoff", text=text)
        self.paused[key] = Backoff(
            resource=offer.resource, type=offer.type, zone=offer.zone, market=offer.market, until=until, reason=reason
        )

    def succeed(self, offer: Offer, launched_at: datetime | None) -> None:
        """A machine of it works: forget the failures from before its launch. Those since say more than it does: a zone
        may be sold out while what was bought earlier runs on."""
        failed_at = self.failed_at.get(_key(offer))
        if failed_at is not None and launched_at is not None and launched_at >= failed_at:
            for memory in (self.failures, self.failed_at, self.paused):
                memory.pop(_key(offer), None)

    def loud(self, at: datetime) -> tuple[Reason, ...]:
        """What an operator should see: offers in force that failed again and again."""
        return tuple(
            b.reason for key, b in self.paused.items() if b.until > at and self.failures.get(key, 0) >= LOUD_AFTER
        )

    def at(self, at: datetime) -> tuple[Backoff, ...]:
        """Those in force."""
        return tuple(b for b in self.paused.values() if b.until > at)


def _key(offer: Offer) -> Key:
    return offer.resource, offer.type, offer.zone, offer.market
