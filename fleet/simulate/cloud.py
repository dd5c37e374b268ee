"""The fake cloud in virtual time: machines that take a while to boot, zones that sell out, calls that are not answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fleet.errors import NoCapacity, NotAuthorised, ProviderError, QuotaExceeded, UnknownProviderFault
from fleet.model import Offer, Resource
from fleet.providers.base import Finding, Launched, LaunchFailed, LaunchOrder, Machine
from fleet.providers.fake import FakeCloud
from fleet.simulate.agenda import Agenda
from fleet.simulate.faults import Faults
from fleet.simulate.truth import Life, Truth


class DispatcherKilled(BaseException):
    """kill -9 in the middle of a call. Not an Exception, so that nothing in the house can catch it."""


class SimulatedCloud:
    """Keeps the contract of `Provider` around `FakeCloud`, with faults by lot, and tells of every machine that begins or ends."""

    def __init__(
        self,
        offers: Mapping[str, Sequence[Offer]],
        agenda: Agenda,
        faults: Faults,
        truth: Truth,
        *,
        on_launch: Callable[[LaunchOrder, SimulatedCloud], None],
        on_end: Callable[[str], None],
    ) -> None:
        """`offers`: by resource. `on_launch` hears of a new machine, `on_end` that a machine was ended by a call."""
        self.list_lag = faults.list_lag
        self.is_repeat_due = False  # a call was not answered: the dispatcher will repeat it at its next pass
        self._offers = offers
        self._agenda = agenda
        self._faults = faults
        self._truth = truth
        self._on_launch = on_launch
        self._on_end = on_end
        self._fake = FakeCloud(now=agenda.now, list_lag=faults.list_lag)
        self._calls = itertools.count()

    # --- the contract

    def offers(self, resource: Resource, at: object) -> Sequence[Offer]:
        at, faults = self._agenda.at, self._faults
        if not faults.prices_move:
            return self._offers[resource.name]
        return [replace(o, price_usd_per_hour=faults.price_of(o, at)) for o in self._offers[resource.name]]

    def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[Launched | LaunchFailed]:
        call = self._call("launch")
        if any(self._faults.is_refused(order.offer.provider, self._agenda.at) for order in orders):
            raise NotAuthorised(f"{orders[0].offer.provider}: the key is not valid")
        answers = [self._launch_one(order) for order in orders]
        if self._faults.has(self._faults.killed_calls, "killed", call):
            raise DispatcherKilled(call)
        self._lose_answer(call)
        return answers

    def list(self, cluster: str) -> Sequence[Machine]:
        self._lose_answer(self._call("list"))
        return self._fake.list(cluster)

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        call = self._call("terminate")
        for cloud_id in cloud_ids:
            machine = self._fake.machines.get(cloud_id)
            if machine and machine.ended_at is None:
                self.end(machine.machine.instance)
                self._on_end(machine.machine.instance)
        self._lose_answer(call)

    def check(self, resource: Resource, at: object) -> Sequence[Finding]:
        return []

    # --- the world

    def end(self, instance: str) -> None:
        """The machine is no more: it ended itself, or the cloud took it."""
        life = self._truth.lives[instance]
        if life.ended_at is None:
            life.ended_at = self._agenda.at
            self._fake.end(f"fake-{instance}")

    def _launch_one(self, order: LaunchOrder) -> Launched | LaunchFailed:
        is_new = f"fake-{order.instance}" not in self._fake.machines
        if is_new and (error := self._refusal(order.offer)):
            return LaunchFailed(instance=order.instance, error=error)
        (answer,) = self._fake.launch([order])
        if is_new:
            life = Life(instance=order.instance, offer=order.offer, launched_at=self._agenda.at)
            self._truth.lives[order.instance] = life
            self._on_launch(order, self)
        return answer

    def _refusal(self, offer: Offer) -> ProviderError | None:
        at, where = self._agenda.at, offer.zone or offer.region or "this zone"
        if self._faults.is_over_quota(offer, at):
            return QuotaExceeded(f"the account may not have more {offer.family} ({offer.market}) in {where}")
        if self._faults.is_sold_out(offer, at):
            return NoCapacity(f"{offer.type} ({offer.market}) is sold out in {where}")
        return None

    def _call(self, verb: str) -> str:
        """The name of this call; raises if it is one of those that get lost on their way there."""
        call = f"{verb} {next(self._calls)}"
        if self._faults.has(self._faults.lost_calls / 2, "lost before", call):
            self.is_repeat_due = True
            raise UnknownProviderFault(f"{call}: no answer; it will be repeated")
        return call

    def _lose_answer(self, call: str) -> None:
        if self._faults.has(self._faults.lost_calls / 2, "lost after", call):
            self.is_repeat_due = True
            raise UnknownProviderFault(f"{call}: no answer; it will be repeated")
