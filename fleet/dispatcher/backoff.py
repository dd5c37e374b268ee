"""How long to leave alone what failed: doubling, by class of error, each over what it says something of (P8).

    no capacity          this type in this zone and market of this resource
    spot of a mixed resource that had none or took a machine back: the same, for its blackout
    quota                the family of types in this region and market, for every resource
    credentials          the provider; then one machine at a time finds out whether they work again
    throttled            the provider, shortly
    anything else        as no capacity

In memory: after a restart each is tried once more, which is all it costs. What a broken image costs is bounded by the breaker
(`fleet.planner.breaker`), which is read from the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet.errors import BadRequest, NoCapacity, NotAuthorised, ProviderError, QuotaExceeded, Throttled
from fleet.model import Backoff, Market, MarketPolicy, Offer, Reason, Resource

# (provider, region, resource, family, type, zone, market), as the fields of a Backoff; None: any
Key = tuple[str | None, str | None, str | None, str | None, str | None, str | None, Market | None]

FIRST = {  # the first pause after an error of this class
    NoCapacity: timedelta(seconds=30),
    Throttled: timedelta(seconds=5),
    QuotaExceeded: timedelta(minutes=10),
    BadRequest: timedelta(minutes=1),
    NotAuthorised: timedelta(minutes=1),
}
FIRST_OF_UNKNOWN = timedelta(seconds=10)
LONGEST = timedelta(minutes=30)
LONGEST_THROTTLED = timedelta(minutes=2)
LOUD_AFTER = 3  # failures in a row: no longer bad luck


@dataclass(slots=True)
class Backoffs:
    """The pauses that are in force."""

    failures: dict[Key, int] = field(default_factory=dict)
    failed_at: dict[Key, datetime] = field(default_factory=dict)
    paused: dict[Key, Backoff] = field(default_factory=dict)

    def fail(self, offer: Offer, error: ProviderError, at: datetime, resource: Resource | None = None) -> None:
        """This offer failed at `at`: pause what the error speaks of, twice as long as the last time."""
        key = _key(offer, error)
        if self.failed_at.get(key) == at:
            return  # ten orders of one batch are refused at once: that is one failure, or the first would pause for hours
        count = self.failures[key] = self.failures.get(key, 0) + 1
        self.failed_at[key] = at
        first = next((pause for kind, pause in FIRST.items() if isinstance(error, kind)), FIRST_OF_UNKNOWN)
        if isinstance(error, NoCapacity) and has_blackout(offer, resource):
            assert resource
            first = resource.blackout
        until = _until(error, first, count, at)
        provider, region, name, family, type_, zone, market = key
        self.paused[key] = Backoff(
            provider=provider,
            region=region,
            resource=name,
            family=family,
            type=type_,
            zone=zone,
            market=market,
            until=until,
            times=count,
            reason=_reason(offer, error, count, until),
        )

    def interrupted(self, offer: Offer, resource: Resource | None, why: str, at: datetime) -> None:
        """The cloud took a spot machine back: its pool is left alone for the blackout."""
        if has_blackout(offer, resource):
            self.fail(offer, NoCapacity(f"a machine was taken back ({why})"), at, resource)

    def answered(self, provider: str) -> None:
        """The cloud launched something: it knows our credentials, and does not mind our calls."""
        self._forget((provider, None, None, None, None, None, None))

    def succeed(self, offer: Offer, launched_at: datetime | None) -> None:
        """A machine of it works: forget the failures from before its launch. Those since say more than it does: a zone
        may be sold out while what was bought earlier runs on."""
        for key in (_key(offer, None), _key(offer, QuotaExceeded(""))):
            failed_at = self.failed_at.get(key)
            if failed_at is not None and launched_at is not None and launched_at >= failed_at:
                self._forget(key)

    def loud(self, at: datetime) -> tuple[Reason, ...]:
        """What an operator should see: what failed again and again, and at once what nobody else can mend."""
        return tuple(
            b.reason
            for key, b in self.paused.items()
            if b.reason.code == "not_authorised"
            or (b.until > at and (b.reason.code == "quota_exceeded" or self.failures.get(key, 0) >= LOUD_AFTER))
        )

    def at(self, at: datetime) -> tuple[Backoff, ...]:
        """Those in force. Credentials that failed stay in force until they work: one machine may try."""
        return tuple(
            replace(b, is_probing=b.until <= at)
            for b in self.paused.values()
            if b.until > at or b.reason.code == "not_authorised"
        )

    def is_paused(self, provider: str, at: datetime) -> bool:
        """Whether this provider as a whole is left alone."""
        pause = self.paused.get((provider, None, None, None, None, None, None))
        return pause is not None and pause.until > at

    def is_refused(self, provider: str) -> bool:
        """Whether this provider did not accept our credentials when it was last asked."""
        pause = self.paused.get((provider, None, None, None, None, None, None))
        return pause is not None and pause.reason.code == "not_authorised"

    def _forget(self, key: Key) -> None:
        for memory in (self.failures, self.failed_at, self.paused):
            memory.pop(key, None)


def has_blackout(offer: Offer, resource: Resource | None) -> bool:
    """Whether there is on demand to turn to when spot of this offer fails."""
    is_mixed = resource is not None and resource.market is MarketPolicy.SPOT_THEN_ON_DEMAND
    return is_mixed and offer.market is Market.SPOT


def _key(offer: Offer, error: ProviderError | None) -> Key:
    """What the error speaks of."""
    if isinstance(error, NotAuthorised | Throttled):
        return offer.provider, None, None, None, None, None, None
    if isinstance(error, QuotaExceeded):
        return offer.provider, offer.region, None, offer.family, None, None, offer.market
    return None, None, offer.resource, None, offer.type, offer.zone, offer.market


def _until(error: ProviderError, first: timedelta, count: int, at: datetime) -> datetime:
    longest = LONGEST_THROTTLED if isinstance(error, Throttled) else max(LONGEST, first)
    pause: timedelta = min(first * 2 ** min(count - 1, 16), longest)
    return at + pause


def _reason(offer: Offer, error: ProviderError, times: int, until: datetime) -> Reason:
    again = f"next try at {until:%H:%M:%S} UTC"
    many = "once" if times == 1 else f"{times} times"
    if isinstance(error, NotAuthorised):
        text = (
            f"{offer.provider} refuses our credentials, so nothing is launched there: {error}; mend them; {again}, "
            "with one machine"
        )
        return Reason(code="not_authorised", text=text)
    if isinstance(error, QuotaExceeded):
        where = f"{offer.family} in {offer.region or offer.provider} ({offer.market})"
        text = f"the quota of {where} is used up: {error}; ask the cloud for more; {again}"
        return Reason(code="quota_exceeded", text=text)
    if isinstance(error, Throttled):
        return Reason(code="backoff", text=f"{offer.provider} asked us to slow down {many}, last: {error}; {again}")
    where = f"{offer.type} in {offer.zone or offer.region or offer.provider} ({offer.market})"
    return Reason(code="backoff", text=f"{where} failed {many}, last: {error}; {again}")
