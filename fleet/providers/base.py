"""The contract of a cloud: offers, launch, list, terminate, check. A new cloud is one file that keeps it, named by an
entry point in the group `fleet.providers` (docs/providers.md); `tests/providers/contract.py` holds it to all of this.

What the dispatcher does next is said at each verb, because a provider is written against that; what it does about each class
of error is said at the class (`fleet.errors`). No verb may hang: a call to a cloud has a time limit (`TIME_LIMIT_S`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, runtime_checkable

from fleet.errors import ProviderError
from fleet.model import Offer, Resource

# The dispatcher's one thread waits for a provider: whatever does not answer by then is an UnknownProviderFault.
TIME_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstBoot:
    """What a new machine must know to find the centre. The token is the only secret, works once, and expires."""

    centre_url: str
    join_token: str = field(repr=False)
    certificate_sha256: str | None = None  # of the authority that vouches for the centre; None: a public one does


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOrder:
    """One machine to start. `instance` is the idempotency token: the same order twice is one machine."""

    instance: str
    cluster: str
    resource: Resource
    offer: Offer
    first_boot: FirstBoot
    # Offers that would do as well, if `offer.may_vary`; none of them costs more. Not repeated with a repeated order.
    alternatives: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """The cloud confirmed. `cloud_id` is its own name for the machine."""

    instance: str
    cloud_id: str
    type: str | None = None  # what it has become, and where; None: as ordered
    zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What the cloud said of one of the alternatives of an order."""

    type: str
    zone: str | None
    error: ProviderError


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchFailed:
    """The cloud said no, for this order alone. Nothing was started."""

    instance: str
    error: ProviderError
    others: tuple[Refusal, ...] = ()  # its alternatives, which are left alone as its offer is


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine that the cloud lists under our tags, in any state but ended."""

    cloud_id: str
    cluster: str  # from its tag
    instance: str  # the intent's id, from its tag
    resource: str  # from its tag
    launched_at: datetime
    type: str | None = None  # told by clouds that may have been free to choose
    zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a provider is made with: `factory(surroundings) -> Provider` is what the entry point names."""

    cluster: str
    directory: Path  # its own place for state and logs; may not exist yet
    resources: tuple[Resource, ...] = ()  # those of this provider, as the fleet file has them: where `list` must look


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that `fleet doctor` looked at. `fix` is empty when it is fine."""

    name: str  # "credentials", "image", "quota": what was looked at, in a word or two
    found: str
    fix: str = ""


class Provider(Protocol):
    """One cloud account, or this machine."""

    # How long a machine that was launched may still be missing from `list` (clouds lag; a local process does not).
    list_lag: timedelta

    def offers(self, resource: Resource, at: datetime) -> Sequence[Offer]:
        """What may be launched for `resource` now, best first by its own list. Cheap: called at every pass; cache inside.

        Raises:
            BadRequest: the resource's settings are wrong; the text names the key and the fix.
        """
        ...

    def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[Launched | LaunchFailed]:
        """Start a batch; one answer for each order, in the same order.

        The intents are already written. A repeated order (after a crash, a time-out) must answer with the same machine.
        An exception means that nothing is known of any of them: the dispatcher repeats the batch later.

        Raises:
            ProviderError: the whole batch could not be tried (no network, credentials, throttled).
        """
        ...

    def list(self, cluster: str) -> Sequence[Machine]:
        """Every machine under this cluster's tag that has not ended: the truth about machines.

        What the store knows and this no longer shows is GONE; what this shows and the store does not know is an orphan.

        Raises:
            ProviderError: the list could not be had whole; nothing is concluded from its absence.
        """
        ...

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """End these machines, by force if need be. Unknown or ended ones are no error. Returns before they are gone.

        Raises:
            ProviderError: repeat at the next pass.
        """
        ...

    def check(self, resource: Resource, at: datetime) -> Sequence[Finding]:
        """What `fleet doctor` should say of this resource beside its offers: credentials, permissions, image, network, quota.

        Only a person asks for it: it may take seconds. It changes nothing in the account and starts nothing. What cannot be
        looked at is a finding with its fix, not an exception.
        """
        ...


@runtime_checkable
class ConsoleSource(Protocol):
    """A provider that can say what a machine printed while it booted."""

    def console(self, cloud_id: str) -> str | None:
        """The end of its console, secrets taken out; None: nothing is there (yet), or the machine is unknown.

        Raises:
            ProviderError: it could not be asked now.
        """
        ...
