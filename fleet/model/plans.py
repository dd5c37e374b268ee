"""What the planner sees (Snapshot) and says (Plan)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.model.limits import Budget, Spent
from fleet.model.offered import Market, Offer, Resource
from fleet.model.reason import Reason
from fleet.model.there import Instance, Standing
from fleet.model.wanted import Queue, Task


class Fairness(StrEnum):
    """How queues of the same priority share the fleet. A queue of higher priority goes before them all."""

    PRIORITY = "priority"  # in the order of the fleet file
    SHARES = "shares"  # by weight: who holds the fewest GPUs for his weight goes next


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """The GPUs that the tasks of one user in one queue hold. A CPU task counts as a thousandth of one."""

    queue: str
    user: str
    gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What gets free on this instance is kept for this task, and for nothing behind it."""

    task: str  # of a gang: its task of rank 0, also for the machines of the others
    instance: str
    since: datetime
    is_first: bool = False  # nothing goes before it here either: it has waited too long, or is a gang
    gang_gpus: float | None = None  # what one node of the gang takes here; None: not of a gang
    may_start: bool = False  # of a gang: all its machines are free and held, and this one takes the task of rank 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Whose turn it is, as the last pass saw it. A level: supervisors follow it until they hear the next."""

    fairness: Fairness = Fairness.PRIORITY
    uses: tuple[Use, ...] = ()  # empty where nobody shares
    holds: tuple[Hold, ...] = ()
    gangs: tuple[str, ...] = ()  # whose nodes go to the machines held for them, and to no other
    is_alone: bool = False  # there is one machine, and it keeps free by itself what a large task waits for


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """How the machines of one kind are used from one number of them up to the next: what `idle_timeout: auto` has learned."""

    level: int  # from so many machines at once on
    idle_s: float  # keep one that has no task for so long
    patience_s: float  # wait so long for one that runs to become free, before launching another


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What the fleet has seen of its tasks, as far as plans depend on it. Empty: nothing yet."""

    bands: Mapping[tuple[str, str], tuple[Band, ...]] = field(default_factory=dict)  # by (resource, type)
    stretch: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By queue: the mean of the longest of 1, 2, 3... tasks, in mean durations: how long they pin a machine together."""
    mean_s: Mapping[str, float] = field(default_factory=dict)  # by queue: how long a task runs
    boot_s: float = 180.0
    wait_usd_per_hour: float = 0.0  # what an hour of a task's waiting is worth


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecord:
    """What became of our spot machines of one type in one zone, over the last days."""

    provider: str
    type: str
    zone: str | None  # where an offer has no zone: its region
    machine_h: float  # machine-hours lived
    interruptions: int  # machines that the cloud took back
    lost_h: float = 0.0  # machine-hours of work that was under way on those


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Do not launch before `until` what all that is given here describes."""

    provider: str | None = None
    region: str | None = None
    resource: str | None = None
    family: str | None = None  # as `Offer.family`
    type: str | None = None
    zone: str | None = None
    market: Market | None = None
    until: datetime
    reason: Reason
    times: int = 1  # failures in a row
    is_probing: bool = False  # the pause is over: one machine may be launched, to find out

    def covers(self, offer: Offer) -> bool:
        return (
            self.resource in (None, offer.resource)
            and self.type in (None, offer.type)
            and self.zone in (None, offer.zone)
            and self.market in (None, offer.market)
            and self.provider in (None, offer.provider)
            and self.region in (None, offer.region)
            and (self.family is None or self.family == offer.family)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a plan depends on. Time and ids come in here: planning the same snapshot twice gives the same plan."""

    pass_id: str  # ids of new instances are made from it, so replaying a plan cannot launch twice
    at: datetime
    cluster: str
    tasks: tuple[Task, ...]  # what waits, heads of queues first
    queues: tuple[Queue, ...]
    resources: tuple[Resource, ...]
    offers: tuple[Offer, ...]  # in the order of their resource's preference
    instances: tuple[Instance, ...]  # all that are not gone
    budget: Budget = field(default_factory=Budget)
    backoffs: tuple[Backoff, ...] = ()
    habits: Habits = Habits()
    pools: tuple[PoolRecord, ...] = ()
    listening_since: datetime | None = None  # the centre could not hear anybody before: no silence counts from earlier
    poll_interval: timedelta = timedelta(seconds=2)  # until the next pass, at the latest
    spent_today: tuple[Spent, ...] = ()  # by those that are gone, since midnight UTC
    spent_this_month: tuple[Spent, ...] = ()  # since the first of the month, UTC
    fairness: Fairness = Fairness.PRIORITY
    starvation_after: timedelta | None = None  # a large task that waits longer goes first; None: never
    holds: tuple[Hold, ...] = ()  # of the last plan, so that the next one does not hop from machine to machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Start one instance. `instance` is the intent's id and the idempotency token of the cloud call."""

    instance: str
    offer: Offer
    tasks: tuple[str, ...]  # whom it is for; a hint for people, not a reservation
    reason: Reason
    standing: Standing = field(default_factory=Standing)
    # Of an offer that may vary: others that would do as well for no more money. What the cloud chose, the store is told.
    alternatives: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Ask an instance to pull no more and to end when empty."""

    instance: str
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelDrain:
    """Take a drain order back: there is work, or money, again for a machine that has not ended yet. It pulls again."""

    instance: str
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminate:
    """End an instance now: it is dead, late, or ordered to. Its tasks, if any, go back to their queues."""

    instance: str
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A non-action: why this task has no machine coming, or which one it waits for."""

    task: str
    queue: str
    reason: Reason
    instance: str | None = None  # the one that is free, booting or to be launched for it


Action = Launch | Drain | CancelDrain | Terminate


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one pass decided."""

    pass_id: str
    at: datetime
    actions: tuple[Action, ...]
    waiting: tuple[Waiting, ...]  # one for each task that waits
    standings: tuple[tuple[str, Standing], ...] = ()  # of instances for which another one holds from now on
    # When the passing of time alone will next change this plan; None: never. A dispatcher polls anyway; the simulator,
    # which passes only when something can come out differently, needs to be told.
    wake_at: datetime | None = None
    kept: frozenset[str] = frozenset()  # instances that a minimum or headroom needs: they do not end for idleness
    notes: tuple[Reason, ...] = ()  # what else people should know: open windows, headroom that cannot be kept
    turns: Turns = Turns()  # for the supervisors
