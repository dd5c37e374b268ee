"""Limits in instances and in dollars an hour, counted on intents: a launch counts from the moment it is decided."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fleet.model import Offer, Queue, Reason, Resource, Snapshot
from fleet.planner.pauses import Probes


@dataclass(slots=True)
class Ledger:
    """What is committed: all that is not gone, and what this plan adds."""

    snapshot: Snapshot
    instances: int = 0
    by_resource: Counter[str] = field(default_factory=Counter)
    for_queue: Counter[str] = field(default_factory=Counter)  # instances launched for a queue, as their reasons say
    usd_per_hour: float = 0.0
    has_unknown_price: bool = False
    probes: Probes | None = None

    @classmethod
    def of(cls, snapshot: Snapshot) -> Ledger:
        ledger = cls(snapshot)
        for instance in snapshot.instances:
            ledger.add(instance.offer, instance.reason.queue)
        if any(b.is_probing for b in snapshot.backoffs):
            ledger.probes = Probes(snapshot.backoffs)
        return ledger

    def add(self, offer: Offer, queue: str | None) -> None:
        """Commit one more instance."""
        if self.probes:
            self.probes.note(offer)
        self.instances += 1
        self.by_resource[offer.resource] += 1
        if queue:
            self.for_queue[queue] += 1
        if offer.price_usd_per_hour is None:
            self.has_unknown_price = True
        else:
            self.usd_per_hour += offer.price_usd_per_hour

    def refusal(self, offer: Offer, resource: Resource, queue: Queue | None) -> Reason | None:
        """Why one more of `offer` would break a limit; None: it would not."""
        if self.probes and (probing := self.probes.refusal(offer)):
            return probing
        budget = self.snapshot.budget
        if budget.max_instances is not None and self.instances >= budget.max_instances:
            return _cap("the fleet", self.instances, "budget.max_instances", budget.max_instances)
        if resource.max_instances is not None and self.by_resource[resource.name] >= resource.max_instances:
            key = f"resources.{resource.name}.max_instances"
            return _cap(f"resource {resource.name}", self.by_resource[resource.name], key, resource.max_instances)
        if queue and queue.max_instances is not None and self.for_queue[queue.name] >= queue.max_instances:
            key = f"queues.{queue.name}.max_instances"
            return _cap(f"queue {queue.name}", self.for_queue[queue.name], key, queue.max_instances)
        return self._money_refusal(offer)

    def _money_refusal(self, offer: Offer) -> Reason | None:
        cap = self.snapshot.budget.usd_per_hour
        if cap is None:
            return None
        limit = f"budget.usd_per_hour={cap:g}"
        if offer.price_usd_per_hour is None or self.has_unknown_price:
            text = f"the price of {offer.type} ({offer.resource}) is unknown, so a budget in dollars cannot be kept"
            return Reason(code="price_unknown", text=text, limit=limit)
        if self.usd_per_hour + offer.price_usd_per_hour > cap + 1e-9:
            text = (
                f"{offer.type} costs ${offer.price_usd_per_hour:.2f} an hour; ${self.usd_per_hour:.2f} of the "
                f"${cap:.2f} that the budget allows are committed"
            )
            return Reason(code="usd_per_hour", text=text, limit=limit)
        return None


def _cap(what: str, count: int, key: str, limit: int) -> Reason:
    noun = "instance" if count == 1 else "instances"
    text = f"{what} has {count} {noun}, the most that {key} allows"
    return Reason(code="max_instances", text=text, limit=f"{key}={limit}")
