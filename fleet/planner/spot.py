"""`market: spot_then_on_demand`: how long a task waits for spot, what is said of it meanwhile, and the way back to spot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from fleet.model import (
    Drain,
    Instance,
    InstanceState,
    Market,
    MarketPolicy,
    Offer,
    Reason,
    Resource,
    Snapshot,
    Task,
)
from fleet.planner.demand import Choice
from fleet.planner.market import effective_price, pays, pools_of
from fleet.planner.pauses import Pauses, SpotWait, sold_out, where

# An idle machine on demand is exchanged only after so long: between two tasks of a sweep nothing is gained.
IDLE_BEFORE_RETURN = timedelta(minutes=1)


class SpotWaits:
    """Who has to wait for spot, and who has waited long enough."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._at = snapshot.at
        mixed = [r for r in snapshot.resources if r.market is MarketPolicy.SPOT_THEN_ON_DEMAND]
        self._thresholds = sorted({r.fallback_after for r in mixed})
        self._mixed = {r.name for r in mixed}
        self._pools = pools_of(snapshot.pools) if mixed else {}
        self._pauses = Pauses([b for b in snapshot.backoffs if b.until > snapshot.at]) if mixed else None

    def patience(self, task: Task) -> int:
        """How many of the waiting times are over for this task: of one class are only those with the same."""
        if not self._thresholds:
            return 0
        waited = self._at - task.enqueued_at
        return sum(waited >= threshold for threshold in self._thresholds)

    def apply(self, choices: Sequence[Choice], patience: int) -> tuple[tuple[Choice, ...], SpotWait | None]:
        """The choices of a class with this patience: on demand of a resource whose spot is sold out may not be launched yet."""
        over = self._thresholds[:patience]
        wait: SpotWait | None = None
        found: list[Choice] = list(choices)
        for name in dict.fromkeys(c.resource.name for c in choices if c.resource.name in self._mixed):
            ours = [c for c in choices if c.resource.name == name]
            this = None if ours[0].resource.fallback_after in over else self._wait(ours)
            if this:
                blocked = Reason(code="spot_wait", text=sold_out(this.spot, this.until, this.times))
                found = [
                    replace(c, backoff=c.backoff or blocked)
                    if c.resource.name == name and c.offer.market is Market.ON_DEMAND
                    else c
                    for c in found
                ]
                wait = wait or this
        return tuple(found), wait

    def lost(self, offer: Offer, choices: Mapping[str, Sequence[Choice]]) -> str:
        """Which spot offer lost against this one on demand, and by how much; empty: none did."""
        if offer.market is Market.SPOT or offer.resource not in self._mixed or self._pauses is None:
            return ""
        for choice in choices.get(offer.resource, ()):
            spot = choice.offer
            if spot.market is not Market.SPOT or spot.type != offer.type:
                continue
            if pause := self._pauses.of(spot):
                return f"; {sold_out(spot, pause.until, pause.times)}"
            usd, worth = spot.price_usd_per_hour, effective_price(spot, self._pools)
            if usd is not None and worth is not None and offer.price_usd_per_hour is not None:
                return (
                    f"; spot in {where(spot)} at ${usd:.2f} comes to ${worth:.2f} for an hour of work that lasts, "
                    f"${worth - offer.price_usd_per_hour:.2f} more"
                )
        return ""

    def _wait(self, ours: Sequence[Choice]) -> SpotWait | None:
        """What a class waits for at one resource; None: nothing, spot can be had or does not pay."""
        on_demand = [c for c in ours if c.offer.market is Market.ON_DEMAND]
        if not on_demand or self._pauses is None:
            return None
        prices = {c.offer.type: c.offer.price_usd_per_hour for c in reversed(on_demand)}
        spot = [
            c.offer
            for c in ours
            if c.offer.market is Market.SPOT and pays(c.offer, prices.get(c.offer.type), self._pools)
        ]
        paused = [(pause.until, n, pause) for n, offer in enumerate(spot) if (pause := self._pauses.of(offer))]
        if not paused or len(paused) < len(spot):
            return None
        until, place, pause = min(paused, key=lambda p: p[:2])
        first = on_demand[0]
        return SpotWait(spot[place], until, pause.times, first.offer, first.resource.fallback_after)


def next_turn(snapshot: Snapshot) -> datetime | None:
    """When a task that waits will first get what it may not have now; None: time alone gives it nothing."""
    mixed = {r.name: r.fallback_after for r in snapshot.resources if r.market is MarketPolicy.SPOT_THEN_ON_DEMAND}
    turns = [b.until for b in snapshot.backoffs if b.until > snapshot.at] if snapshot.tasks else []
    if mixed and turns:
        waits = {q.name: {mixed[r] for r in q.resources if r in mixed} for q in snapshot.queues}
        turns += [
            t.enqueued_at + wait
            for t in snapshot.tasks
            for wait in waits.get(t.queue, ())
            if t.enqueued_at + wait > snapshot.at
        ]
    return min(turns, default=None)


def return_to_spot(snapshot: Snapshot) -> tuple[tuple[Drain, ...], datetime | None]:
    """Ask idle machines on demand to end where spot has been had since they were launched; and when to look again.

    One of a resource at a time, none that is needed: what waits would have to boot what it ends.
    """
    mixed = {r.name: r for r in snapshot.resources if r.market is MarketPolicy.SPOT_THEN_ON_DEMAND}
    if not mixed:
        return (), None
    idle = [i for i in snapshot.instances if i.idle_since and i.offer.resource in mixed and _may_return(i)]
    if not idle:
        return (), None
    wanted = {t.queue for t in snapshot.tasks}
    needed = {r for q in snapshot.queues if q.name in wanted for r in q.resources}
    drains: list[Drain] = []
    looks: list[datetime] = []
    for name in dict.fromkeys(i.offer.resource for i in idle if i.offer.resource not in needed):
        ours = [i for i in snapshot.instances if i.offer.resource == name]
        if any(i.end_reason and i.end_reason.code == "return_to_spot" for i in ours):
            continue
        oldest = min((i for i in idle if i.offer.resource == name), key=lambda i: (i.requested_at, i.id))
        proof = _proof(ours, oldest)
        if proof is None or not _is_cheaper(proof, oldest, snapshot):
            continue
        assert oldest.idle_since
        due = oldest.idle_since + IDLE_BEFORE_RETURN
        if due > snapshot.at:
            looks.append(due)
        else:
            drains.append(Drain(instance=oldest.id, reason=_returning(oldest, proof, mixed[name])))
    return tuple(drains), min(looks, default=None)


def _may_return(instance: Instance) -> bool:
    return instance.offer.market is Market.ON_DEMAND and instance.state is InstanceState.READY


def _proof(ours: Sequence[Instance], idle: Instance) -> Instance | None:
    """A spot machine that was launched after this one and has come up: spot is there again."""
    states = (InstanceState.READY, InstanceState.BUSY)
    newer = [
        i for i in ours if i.offer.market is Market.SPOT and i.state in states and i.requested_at > idle.requested_at
    ]
    return max(newer, key=lambda i: (i.requested_at, i.id), default=None)


def _is_cheaper(spot: Instance, idle: Instance, snapshot: Snapshot) -> bool:
    pause = Pauses([b for b in snapshot.backoffs if b.until > snapshot.at]).of(spot.offer)
    return pause is None and pays(spot.offer, idle.offer.price_usd_per_hour, pools_of(snapshot.pools))


def _returning(idle: Instance, proof: Instance, resource: Resource) -> Reason:
    text = (
        f"idle on demand at {_usd(idle.offer)}, and spot of resource {resource.name} is there again at "
        f"{_usd(proof.offer)} (instance {proof.id})"
    )
    return Reason(code="return_to_spot", text=text, limit=f"resources.{resource.name}.market={resource.market}")


def _usd(offer: Offer) -> str:
    return "an unknown price" if offer.price_usd_per_hour is None else f"${offer.price_usd_per_hour:.2f} an hour"
