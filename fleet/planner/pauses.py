"""What may not be launched now: backoffs in force, and those whose pause is over but that may be tried by one machine alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.model import Backoff, Offer, Reason, Task


class Pauses:
    """The backoffs in force, found without asking each of them about each offer: of hundreds of pools, most may be sold out."""

    def __init__(self, backoffs: Sequence[Backoff]) -> None:
        self._narrow: dict[tuple[object, ...], Backoff] = {}
        self._wide: list[Backoff] = []
        for b in backoffs:
            is_narrow = b.resource and b.type and b.market and not (b.provider or b.region or b.family)
            if is_narrow:
                self._narrow[b.resource, b.type, b.zone, b.market] = b
            else:
                self._wide.append(b)

    def of(self, offer: Offer) -> Backoff | None:
        """Why it may not be launched now; None: it may."""
        for wide in self._wide:
            if wide.covers(offer):
                return wide
        if not self._narrow:
            return None
        key = (offer.resource, offer.type, offer.zone, offer.market)
        return self._narrow.get(key) or self._narrow.get((offer.resource, offer.type, None, offer.market))


class Probes:
    """Of what failed again and again, one machine finds out whether it works by now."""

    def __init__(self, backoffs: Sequence[Backoff]) -> None:
        self._probing = [b for b in backoffs if b.is_probing]
        self._used: set[int] = set()

    def refusal(self, offer: Offer) -> Reason | None:
        """Why this plan may not launch one more of it."""
        for place in self._used:
            if self._probing[place].covers(offer):
                return self._probing[place].reason
        return None

    def note(self, offer: Offer) -> None:
        """This plan launches one."""
        self._used |= {place for place, probe in enumerate(self._probing) if probe.covers(offer)}


@dataclass(frozen=True, slots=True)
class SpotWait:
    """Spot would serve a class for less and cannot be had; on demand of the same resource has to wait for its turn."""

    spot: Offer
    until: datetime  # then spot is tried again
    times: int  # that it failed in a row
    on_demand: Offer
    fallback_after: timedelta

    def reason(self, task: Task, at: datetime) -> Reason:
        """Why this task has no machine yet, and when it will get which."""
        turn = task.enqueued_at + self.fallback_after
        usd = self.on_demand.price_usd_per_hour
        price = "at an unknown price" if usd is None else f"at ${usd:.2f}"
        limit = f"resources.{self.spot.resource}.fallback_after={_words(self.fallback_after)}"
        text = (
            f"{sold_out(self.spot, self.until, self.times)}; on-demand {self.on_demand.type} {price} from "
            f"{turn:%H:%M:%S} UTC, {_words(turn - at)} from now ({limit})"
        )
        return Reason(code="spot_wait", text=text, limit=limit)


def sold_out(offer: Offer, until: datetime, times: int) -> str:
    ordinal = f" ({times}{_suffix(times)} time)" if times > 1 else ""
    return f"spot {offer.type} in {where(offer)} cannot be had until {until:%H:%M:%S} UTC{ordinal}"


def _suffix(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def where(offer: Offer) -> str:
    return offer.zone or offer.region or offer.provider


def _words(span: timedelta) -> str:
    seconds = max(int(span.total_seconds()), 0)
    if seconds % 60 and seconds < 600:
        return f"{seconds}s"
    return f"{seconds // 60}m" if seconds < 7200 or seconds % 3600 else f"{seconds // 3600}h"
