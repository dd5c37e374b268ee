"""What a dispatcher is made of. Everything that touches time, a cloud, a disk or a socket comes in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.model import Budget, Fairness, Queue, Resource
from fleet.providers.base import Provider
from fleet.queues.base import Demand
from fleet.store.base import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the fleet file says, as far as a dispatcher needs it."""

    cluster: str
    resources: tuple[Resource, ...]
    queues: tuple[Queue, ...]
    budget: Budget
    centre_url: str  # what VMs call
    server_url: str
    server_kind: str  # "embedded" or "clearml"
    poll_interval: timedelta = timedelta(seconds=2)
    # A task that lost this many machines is given up, so that one that kills its machine cannot burn money for ever.
    max_attempts: int = 3
    fairness: Fairness = Fairness.PRIORITY
    starvation_after: timedelta | None = timedelta(minutes=30)
    wait_usd_per_hour: float | None = None  # of a task's waiting; None: as `fleet.planner.habits` learns it
    certificate_sha256: str | None = None  # see `FirstBoot`


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The world, as a dispatcher meets it."""

    store: Store
    demand: Demand
    providers: Mapping[str, Provider]  # by the name that resources use
    now: Callable[[], datetime]
    new_id: Callable[[], str]  # of a pass: unique for ever, also over restarts
    join_secret: bytes = field(
        repr=False
    )  # join tokens are derived from it, so that a repeated launch repeats its token
    announce: Callable[[], None] = lambda: None  # tells idle supervisors that work may wait; a hint
    # When this host last woke from sleep, or its clock was set by hours: who could not be heard until then was not silent.
    woken_at: Callable[[], datetime | None] = lambda: None
