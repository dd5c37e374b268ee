"""The cloud's list against our memory. The list is the truth about machines: what it no longer shows is gone, what we
do not know is an orphan."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.dispatcher.backoff import Backoffs
from fleet.dispatcher.ending import end
from fleet.dispatcher.history import is_interruption
from fleet.dispatcher.parts import Parts, Policy
from fleet.dispatcher.settled import settled
from fleet.errors import ProviderError, UnknownProviderFault
from fleet.model import Event, Instance, InstanceState, Reason
from fleet.providers.base import Machine, Provider

log = logging.getLogger(__name__)

# An orphan is reported at once, and ended after this: time for a second dispatcher's mistake, or an operator's, to be seen.
ORPHAN_GRACE = timedelta(seconds=60)
# An idle machine that stayed so long is one that works.
TRUSTED_AFTER = timedelta(seconds=30)
# Of strangers that are gone. A list that was read wrong for a moment, now and then, must not make each of them new again.
MOST_ORPHANS = 1000


@dataclass(slots=True)
class Reconciler:
    """Compares, and remembers since when each orphan has been seen."""

    parts: Parts
    policy: Policy
    backoffs: Backoffs
    orphans: dict[str, datetime] = field(default_factory=dict)
    alerts: list[Reason] = field(default_factory=list)
    has_closed: bool = False  # an instance went in the last run: its tasks want to go back

    def run(self, instances: Sequence[Instance]) -> None:
        """Bring the store up to date with every cloud that answers; a cloud that does not is an alert, nothing more."""
        self.alerts, self.has_closed = [], False
        providers = {r.name: r.provider for r in self.policy.resources}
        living, there = {i.id for i in instances}, set[str]()
        for name, provider in self.parts.providers.items():
            try:
                listed = provider.list(self.policy.cluster)
            except ProviderError as error:
                self.alerts.append(Reason(code="provider_silent", text=f"{name} does not list its machines: {error}"))
                continue
            ours = [i for i in instances if providers.get(i.offer.resource, i.offer.provider) == name]
            self._trust_the_working(ours)
            shown = {m.cloud_id for m in listed}
            there |= shown
            if missing := [i for i in ours if i.cloud_id not in shown]:
                self._close_the_gone(missing, provider)
                self._adopt(missing, {m.instance: m for m in listed})
            for machine in listed if self.orphans else ():
                if (
                    machine.instance in living
                ):  # what was read wrong for a moment, long ago, must not end it at the next time
                    self.orphans.pop(machine.cloud_id, None)
            # The memory is asked only of strangers: one question for each of thousands of machines would take seconds.
            self._end_orphans([m for m in listed if m.instance not in living], provider)
        for stranger in tuple(self.orphans)[: max(len(self.orphans) - MOST_ORPHANS, 0)]:  # first seen longest ago
            if stranger not in there:
                del self.orphans[stranger]

    def _trust_the_working(self, ours: Sequence[Instance]) -> None:
        """An offer whose machines work is tried freely again. Enrolled is not enough: a broken image may enrol and give up."""
        at = self.parts.now()
        for instance in ours if self.backoffs.failed_at else ():
            if instance.state is InstanceState.BUSY or (
                instance.state is InstanceState.READY
                and instance.enrolled_at
                and at - instance.enrolled_at >= TRUSTED_AFTER
            ):
                self.backoffs.succeed(instance.offer, instance.launched_at)

    def _close_the_gone(self, missing: Sequence[Instance], provider: Provider) -> None:
        at = self.parts.now()
        for instance in missing:
            if instance.cloud_id is None:
                continue
            # Just launched: the list may not show it yet, even if it boots faster than the cloud lists.
            if instance.launched_at and at - instance.launched_at < provider.list_lag:
                continue
            reason = instance.end_reason or Reason(
                code="vanished", text="the cloud no longer lists it and nobody here asked for its end"
            )
            self.parts.store.note_gone(instance.id, reason, at)
            self.has_closed = True
            resource = next((r for r in self.policy.resources if r.name == instance.resource), None)
            if failure := _boot_failure(instance, reason):
                self.backoffs.fail(instance.offer, failure, at)
            elif is_interruption(instance, reason):
                self.backoffs.interrupted(instance.offer, resource, reason.text, at)
            log.info("instance gone", extra={"instance": instance.id, "reason": reason.text})

    def _adopt(self, missing: Sequence[Instance], listed: Mapping[str, Machine]) -> None:
        """An intent whose launch was answered to a dispatcher that died: the cloud has it, so it is launched."""
        for instance in missing:
            if instance.cloud_id is None and instance.id in listed:
                machine = listed[instance.id]
                resource = next((r for r in self.policy.resources if r.name == instance.resource), None)
                offer = settled(instance.offer, machine.type, machine.zone, resource, self.parts)
                self.parts.store.note_launched(instance.id, machine.cloud_id, self.parts.now(), offer)

    def _end_orphans(self, strangers: Sequence[Machine], provider: Provider) -> None:
        at = self.parts.now()
        unknown = [m for m in strangers if self._is_orphan(m)]
        for machine in unknown:
            if machine.cloud_id not in self.orphans:
                self.orphans[machine.cloud_id] = at
                text = (
                    f"{machine.cloud_id} carries our tag and nobody here knows it; it ends in {ORPHAN_GRACE.seconds} s"
                )
                self.parts.store.append_events([Event(at=at, kind="instance.orphan", text=text)])
            self.alerts.append(Reason(code="orphan", text=f"orphan {machine.cloud_id} ({machine.resource})"))
        due = [m.cloud_id for m in unknown if at - self.orphans[m.cloud_id] >= ORPHAN_GRACE]
        if due:
            end(due, provider)

    def _is_orphan(self, machine: Machine) -> bool:
        known = self.parts.store.instance(machine.instance)
        return known is None or known.gone_at is not None


def _boot_failure(instance: Instance, reason: Reason) -> ProviderError | None:
    """A machine that cost money and never worked: the next one of this offer is likely to do the same."""
    if instance.enrolled_at is None and reason.code != "operator":
        return UnknownProviderFault(f"instance {instance.id} never enrolled ({reason})")
    if reason.code == "agent_unusable":
        return UnknownProviderFault(f"instance {instance.id} could not run agents ({reason})")
    return None
