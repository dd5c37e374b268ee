"""Limits in instances, counted on intents: a launch counts from the moment it is decided. Money is `fleet.planner.money`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fleet.model import Budget, Offer, Queue, Reason, Resource, Snapshot
from fleet.planner.money import Money
from fleet.planner.pauses import Probes
from fleet.planner.quotas import Quotas
from fleet.planner.schedule import key_of, next_window


@dataclass(slots=True)
class Ledger:
    """What is committed: all that is not gone, and what this plan adds."""

    snapshot: Snapshot
    money: Money | None = None  # None: nothing but the fleet's instances is limited
    instances: int = 0
    by_resource: dict[str, int] = field(default_factory=dict)  # if any of them has a limit
    for_queue: dict[str, int] = field(default_factory=dict)  # the same: launched for it, as their reasons say
    probes: Probes | None = None
    quotas: Quotas | None = None  # None: none is known

    @classmethod
    def of(cls, snapshot: Snapshot, money: Money | None = None) -> Ledger:
        """With all that is there. `money`, if given, has it already."""
        instances = snapshot.instances
        ledger = cls(snapshot, instances=len(instances))
        # Thousands are counted only where somebody asks.
        if any(r.max_instances is not None for r in snapshot.resources):
            ledger.by_resource = Counter([i.offer.resource for i in instances])
        if any(q.max_instances is not None for q in snapshot.queues):
            ledger.for_queue = Counter([queue for i in instances if (queue := i.reason.queue)])
        ledger.money = money
        if any(b.is_probing for b in snapshot.backoffs):
            ledger.probes = Probes(snapshot.backoffs)
        if any(offer.quota for offer in snapshot.offers):
            ledger.quotas = Quotas(instances)
        return ledger

    @property
    def is_by_resource(self) -> bool:
        """A limit is the same for all offers of a resource."""
        return self.money is None and self.probes is None and self.quotas is None

    def add(self, offer: Offer, queue: str | None, user: str | None = None) -> None:
        """Commit one more instance."""
        if self.probes:
            self.probes.note(offer)
        if self.quotas:
            self.quotas.add(offer)
        self.instances += 1
        self.by_resource[offer.resource] = self.by_resource.get(offer.resource, 0) + 1
        if queue:
            self.for_queue[queue] = self.for_queue.get(queue, 0) + 1
        if self.money:
            self.money.launch(offer, queue, user)

    def refusal(self, offer: Offer, resource: Resource, queue: Queue | None, user: str | None = None) -> Reason | None:
        """Why one more of `offer` would break a limit; None: it would not."""
        if self.probes and (probing := self.probes.refusal(offer)):
            return probing
        if self.quotas and (short := self.quotas.refusal(offer)):
            return short
        budget = self.snapshot.budget
        if budget.max_instances is not None and self.instances >= budget.max_instances:
            return _cap("the fleet", self.instances, budget, "budget", budget.max_instances)
        if resource.max_instances is not None:
            count = self.by_resource.get(resource.name, 0)
            if count >= resource.max_instances:
                path = f"resources.{resource.name}"
                return _cap(f"resource {resource.name}", count, resource, path, resource.max_instances)
        if queue and queue.max_instances is not None:
            count = self.for_queue.get(queue.name, 0)
            if count >= queue.max_instances:
                return _cap(f"queue {queue.name}", count, queue, f"queues.{queue.name}", queue.max_instances)
        return self.money.refusal(offer, queue.name if queue else None, user) if self.money else None


def _cap(what: str, count: int, holder: Resource | Queue | Budget, path: str, limit: int) -> Reason:
    key = key_of(holder, path, "max_instances")
    noun = "instance" if count == 1 else "instances"
    has = f"{what} has {count or 'no'} {noun}"
    text = f"{has}, the most that {key} allows{next_window(holder)}"
    if count > limit:
        text = f"{has}, more than {key}={limit} allows{next_window(holder)}"
    return Reason(code="max_instances", text=text, limit=f"{key}={limit}")
