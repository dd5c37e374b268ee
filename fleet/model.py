"""FRONT DOOR: the nouns that cross rooms. All frozen, keyword-only, free of I/O; times are aware UTC, money is US dollars.

Read in this order: Task and Queue (what is wanted), Resource and Offer (what may be had), Gpu, Allocation and
Instance (what is there), Budget and Snapshot (what the planner sees), Plan, its actions and Reason (what it says),
Run and Event (what is remembered).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

MOST_GPUS = 1024  # of one task: more is a typo
SMALLEST_PART = 0.01  # of a GPU
# Shares of a GPU are added in whole ten-thousandths, as fine as `GpuNeed.read` reads them: floats would lose some.
PARTS_OF_A_GPU = 10_000


# Drivers report less than the number on the box: a "24 GB" A10 says 22.5 GiB, an old "16 GB" T4 14.8 GiB.
# A task that asks for the number on the box must fit, or machines would be launched for it that never take it.
NOMINAL_MEMORY = 0.9


class Market(StrEnum):
    SPOT = "spot"  # cheaper; the cloud may take it back at short notice
    ON_DEMAND = "on_demand"


class MarketPolicy(StrEnum):
    """Which markets a resource may be bought in."""

    SPOT = "spot"
    ON_DEMAND = "on_demand"
    SPOT_THEN_ON_DEMAND = "spot_then_on_demand"


class Fairness(StrEnum):
    """How queues of the same priority share the fleet. A queue of higher priority goes before them all."""

    PRIORITY = "priority"  # in the order of the fleet file
    SHARES = "shares"  # by weight: who holds the fewest GPUs for his weight goes next


class WhenSpent(StrEnum):
    """What happens at the cap of a money budget."""

    HOLD = "hold"  # launch nothing more
    DRAIN = "drain"  # also pull no more tasks
    STOP = "stop"  # also end what runs, by a deadline


class Preference(StrEnum):
    """Which of a queue's resources is launched first, where several can hold a task."""

    AUTO = "auto"  # by price among those with the same GPUs, else as the fleet file lists them
    LISTED = "listed"  # as the fleet file lists them; by price within each
    PRICE = "price"  # whatever costs least


class InstanceState(StrEnum):
    """Where an instance is in its life. Derived from timestamps (`Instance.state`), never stored."""

    REQUESTED = "requested"  # intent written; the cloud has not confirmed
    BOOTING = "booting"  # the cloud gave it an id; its supervisor has not enrolled
    READY = "ready"  # enrolled, holds no task
    BUSY = "busy"  # holds at least one allocation
    DRAINING = "draining"  # pulls no more; ends when empty
    TERMINATING = "terminating"  # told to end, or said goodbye; still listed by the cloud
    GONE = "gone"  # the cloud no longer lists it: the ledger is closed


# An instance in one of these pulls, or once booted will pull, what waits.
TAKING_TASKS = frozenset({InstanceState.REQUESTED, InstanceState.BOOTING, InstanceState.READY, InstanceState.BUSY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something is done, or not done. Every action and every event carries one."""

    code: str  # a stable word for programs: "demand", "idle", "boot_timeout", "max_instances"
    text: str  # one sentence for people; names the queue, the task, the limit
    queue: str | None = None
    task: str | None = None
    limit: str | None = None  # the limit that decided, as in the fleet file: "resources.gpu.max_instances=2"
    user: str | None = None  # of the first task, for a launch: whose budget pays

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Some hours in which other limits hold: from each time of its cron line on, for so long. None: as it is without it."""

    cron: str  # minute, hour, day, month, weekday: "0 8 * * 1-5"
    lasts: timedelta
    timezone: str = "UTC"  # an IANA name, in which the cron line is meant
    min_instances: int | None = None
    max_instances: int | None = None
    headroom: int | None = None


# --- what is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNeed:
    """How many GPUs a task takes: what it needs, and up to the upper bound of what nobody behind it needs. 0 = a CPU task;
    0.5 = half of one GPU."""

    at_least: float
    at_most: float

    def __str__(self) -> str:
        low, high = f"{self.at_least:g}", f"{self.at_most:g}"
        return low if low == high else f"{low}-{high}"

    @property
    def share(self) -> float | None:
        """The part of one GPU that it takes, if it is a part; None: whole GPUs, or none."""
        return self.at_least if 0 < self.at_least < 1 else None

    @classmethod
    def read(cls, text: str) -> GpuNeed:
        """From `2`, `0`, `0.5` (part of one GPU) or `1-4`: the fleet file and tasks' wishes write it alike.

        Raises:
            ValueError: anything else; the text says what is allowed.
        """
        bounds = [part.strip() for part in text.split("-")]
        digits = [part.replace(".", "", 1) for part in bounds]
        if len(bounds) > 2 or not all(d.isascii() and d.isdigit() and len(d) <= 6 for d in digits):
            raise ValueError("a number of GPUs is 2, 0.5, 0 or 1-4")
        low, high = float(bounds[0]), float(bounds[-1])
        if len(bounds) == 2 and not (low.is_integer() and high.is_integer() and 1 <= low <= high):
            raise ValueError("a range of GPUs goes up from 1 or more, in whole GPUs: 1-4")
        if low > 1 and not low.is_integer():
            raise ValueError("a part of a GPU is less than 1; more than one are whole")
        if 0 < low < SMALLEST_PART:
            raise ValueError(f"a part of a GPU is at least {SMALLEST_PART:g}")
        if high > MOST_GPUS:
            raise ValueError(f"no machine has more than {MOST_GPUS} GPUs")
        return cls(at_least=round(low, 4), at_most=round(high, 4))


def read_gpu_type(text: str) -> str:
    """A wish for a GPU's type, from `a100` or, where any of several is as good, `a100|h100` (or `a100,h100`).

    Raises:
        ValueError: anything else; the text says what is allowed.
    """
    words = [word.strip().lower() for word in text.replace(",", "|").split("|")]
    for word in words:
        plain = word.replace(" ", "").replace(".", "").replace("_", "").replace("-", "")
        if not (plain.isascii() and plain.isalnum() and word[0].isalnum() and len(word) <= 40):
            raise ValueError("a GPU type is a word of its model, as a100, or several, as a100|h100")
    return "|".join(dict.fromkeys(words))


def is_gpu_type(wish: str | None, model: str | None) -> bool:
    """Whether a GPU of this model will do: its name contains one of the words of the wish. Without a wish any GPU will do."""
    if not wish:
        return True
    name = (model or "").lower()
    return any(word in name for word in wish.lower().split("|"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A unit of work that waits in a queue (ClearML's task)."""

    id: str
    queue: str  # the queue's name
    position: int  # 0 = head of its queue
    enqueued_at: datetime
    need: GpuNeed
    name: str = ""
    project: str = ""
    user: str = ""
    gpu_type: str | None = None  # "a100|h100": only GPUs whose model contains one of these words (`is_gpu_type`)
    gpu_memory_gib: float | None = None  # at least so much on each GPU; of a part of one: in its part
    instances: int = 1  # more: a gang, which starts on so many instances at once or not at all
    is_one_zone: bool = False  # of a gang: all its instances in one zone
    gang: str | None = None  # a node of the gang that this running task (of rank 0) has started
    notes: tuple[str, ...] = ()  # wishes of the task that were ignored, each with its cause, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue as the fleet file describes it."""

    name: str
    resources: tuple[str, ...]  # names of resources that may serve it, in order of preference
    need: GpuNeed  # what a task of this queue takes, unless the task says otherwise
    priority: int = 0  # higher goes first
    slots: int | None = None  # tasks without GPUs at once on one instance; None = one for each CPU
    max_instances: int | None = None
    order: Preference = Preference.AUTO
    gpu_type: str | None = None  # of its tasks, unless they say otherwise; as Task.gpu_type
    gpu_memory_gib: float | None = None  # likewise
    headroom: int = 0  # room for so many more of its tasks is kept free or coming at all times
    schedule: tuple[Window, ...] = ()  # as Resource.schedule, and so are the next two
    open_windows: tuple[int, ...] = ()
    opens_at: datetime | None = None
    weight: float = 1.0  # its part among queues of the same priority, where the fleet shares
    is_shared_by_users: bool = False  # its users take turns, instead of first come, first served


# --- what may be had


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What may be launched: a provider, types, zones, a market, an image and limits (ClearML's word)."""

    name: str
    provider: str
    region: str | None = None
    zones: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    market: MarketPolicy = MarketPolicy.ON_DEMAND
    fallback_after: timedelta = timedelta(minutes=5)  # so long a task waits for spot before it gets on-demand
    blackout: timedelta = timedelta(minutes=10)  # so long no spot of a pool that had none or took a machine back; grows
    image: str | None = None
    max_instances: int | None = None
    min_instances: int = 0  # kept even when nothing waits
    idle_timeout: timedelta | None = timedelta(minutes=10)  # None = never end for idleness
    is_idle_auto: bool = False  # the planner chooses, for each machine; `idle_timeout` holds until it has
    boot_timeout: timedelta = timedelta(minutes=15)
    max_lifetime: timedelta | None = None
    schedule: tuple[Window, ...] = ()  # of two that are open, the later one holds
    open_windows: tuple[
        int, ...
    ] = ()  # places in `schedule` of those whose values hold now (`fleet.schedule.in_force`)
    opens_at: datetime | None = None  # when the next one opens that allows more instances
    settings: Mapping[str, object] = field(default_factory=dict)  # keys of this provider alone, checked by it


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One type in one zone at one price in one market, as seen now."""

    resource: str
    provider: str
    type: str
    market: Market
    price_usd_per_hour: float | None  # None = unknown; never treated as free
    gpus: int
    gpu_model: str | None = None
    gpu_memory_gib: float | None = None  # of each GPU
    cpus: int = 1
    memory_gib: float | None = None
    region: str | None = None
    zone: str | None = None
    seen_at: datetime

    @property
    def family(self) -> str:
        """What a quota counts together: `g5` of g5.xlarge (AWS), `a2-highgpu` of a2-highgpu-1g (GCP)."""
        return self.type.partition(".")[0] if "." in self.type else self.type.rpartition("-")[0] or self.type


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
class Gpu:
    """One GPU as its instance sees it. Utilisation and memory in use are the last heartbeat's."""

    index: int
    uuid: str
    model: str
    memory_gib: float
    util: float | None = None  # 0..100 per cent
    memory_used_gib: float | None = None
    temperature_c: float | None = None


# --- what is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """The GPUs that one task holds on one instance."""

    task: str
    queue: str
    worker: str  # what ClearML sees: "<cluster>:<resource>:<instance>:gpu0,1"
    gpus: tuple[str, ...]  # uuids; empty for a CPU task
    started_at: datetime
    share: float | None = None  # of its one GPU, which others may hold parts of too; None: its GPUs are its own
    user: str = ""
    gang: str | None = None  # as the task's


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the centre wants of one machine for as long as it says nothing else: a level, sent with every answer."""

    idle_timeout: timedelta | None = None  # instead of its resource's; None = that
    # By queue: it takes only tasks of more GPUs than so many, because smaller ones have cheaper machines.
    above_gpus: tuple[tuple[str, float], ...] = ()
    meant_for: tuple[str, ...] = ()  # while it is on its way: the tasks that it was launched for


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A machine of ours, from intent to ledger. `id` is the intent's: it exists before the cloud gives its own."""

    id: str
    cluster: str
    offer: Offer  # what was asked for, at which price
    reason: Reason  # why it was launched
    requested_at: datetime
    cloud_id: str | None = None
    launched_at: datetime | None = None  # the cloud confirmed
    enrolled_at: datetime | None = None  # its supervisor presented the join token
    heartbeat_at: datetime | None = None
    idle_since: datetime | None = None  # as its supervisor says; None = has a task, or not enrolled
    drain_requested_at: datetime | None = None  # by the centre
    stopped_pulling_at: datetime | None = None  # by the edge: it pulls no more tasks
    terminate_requested_at: datetime | None = None  # by the centre
    goodbye_at: datetime | None = None  # by the edge: it is ending itself
    gone_at: datetime | None = None
    end_reason: Reason | None = None  # the first that was given for its end
    hostname: str = ""
    gpus: tuple[Gpu, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    standing: Standing = Standing()

    @property
    def resource(self) -> str:
        return self.offer.resource

    @property
    def state(self) -> InstanceState:
        """Read from the timestamps, the latest stage first, so that no row can hold two truths."""
        if self.gone_at:
            return InstanceState.GONE
        if self.terminate_requested_at or self.goodbye_at:
            return InstanceState.TERMINATING
        if self.drain_requested_at or self.stopped_pulling_at:
            return InstanceState.DRAINING
        if self.enrolled_at:
            return InstanceState.BUSY if self.allocations else InstanceState.READY
        return InstanceState.BOOTING if self.launched_at else InstanceState.REQUESTED

    @property
    def is_taking_tasks(self) -> bool:
        """It will pull, or once booted will pull, what waits."""
        return self.state in TAKING_TASKS

    def usd(self, at: datetime) -> float | None:
        """What it has cost until `at`, US dollars, per second from the cloud's confirmation; None if the price is unknown."""
        if self.offer.price_usd_per_hour is None:
            return None
        start = self.launched_at or self.requested_at
        end = min(self.gone_at or at, at)
        return max((end - start).total_seconds(), 0.0) / 3600 * self.offer.price_usd_per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hard limits of the whole fleet, of one queue or of one user. None = no limit of that kind; days and months are UTC's."""

    max_instances: int | None = None
    usd_per_hour: float | None = None  # prices of all instances together
    usd_per_day: float | None = None
    usd_per_month: float | None = None
    when_spent: WhenSpent = WhenSpent.HOLD
    schedule: tuple[Window, ...] = ()  # as Resource.schedule, and so are the next two
    open_windows: tuple[int, ...] = ()
    opens_at: datetime | None = None
    # Of the fleet's budget only. An instance is paid by the queue and by the user that it was launched for.
    queues: Mapping[str, Budget] = field(default_factory=dict)  # by name
    per_user: Budget | None = None  # each user's, unless `users` names him
    users: Mapping[str, Budget] = field(default_factory=dict)

    @property
    def caps_usd(self) -> bool:
        """Whether money is limited here."""
        return (self.usd_per_hour, self.usd_per_day, self.usd_per_month) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What instances that are gone have cost, of those that were launched for one queue and one user."""

    queue: str | None
    user: str | None
    usd: float


def in_parts(gpus: float) -> int:
    """So many GPUs, or a share of one, in ten-thousandths of a GPU."""
    return round(gpus * PARTS_OF_A_GPU)


# --- whose turn it is


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


# --- what the planner sees and says


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
    budget: Budget = Budget()
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
class Launch:
    """Start one instance. `instance` is the intent's id and the idempotency token of the cloud call."""

    instance: str
    offer: Offer
    tasks: tuple[str, ...]  # whom it is for; a hint for people, not a reservation
    reason: Reason
    standing: Standing = Standing()


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


# --- what is remembered


class RunResult(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"  # by its user
    REQUEUED = "requeued"  # its machine was lost or taken; it is back in its queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt of a task on one instance."""

    task: str
    name: str = ""
    instance: str
    queue: str
    worker: str
    gpus: tuple[str, ...]  # uuids
    enqueued_at: datetime | None = None
    claimed_at: datetime
    started_at: datetime | None = None  # the agent process exists
    ended_at: datetime | None = None
    result: RunResult | None = None  # None while it runs
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the fleet's log: what happened, to whom, why."""

    seq: int = 0  # given by the store; grows
    at: datetime
    kind: str  # "instance.launching", "task.claimed", ...: the table in docs/operations.md
    text: str
    instance: str | None = None
    task: str | None = None
    queue: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """What the last pass saw in one queue."""

    name: str
    queued: int
    oldest_enqueued_at: datetime | None
    need: GpuNeed
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the last pass saw and decided, kept so that reading commands need not ask anybody."""

    at: datetime
    pass_id: str
    server_url: str
    server_kind: str  # "embedded" or "clearml"
    is_server_ok: bool
    queues: tuple[QueueView, ...]
    waiting: tuple[Waiting, ...]
    alerts: tuple[Reason, ...] = ()
    notes: tuple[Reason, ...] = ()  # as Plan.notes
    max_instances: int | None = None  # of the whole fleet, as it was in force; None: as the fleet file says


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How a supervisor runs agents; the same for every task of a resource."""

    mode: str = "venv"  # venv: build an environment for each task; interpreter: use `python` as it is; docker
    image: str | None = None
    python: str | None = None  # the interpreter of the tasks; None = the agent's own
    version: str | None = None  # of clearml-agent; None = the one installed beside the supervisor
    extra_conf: str = field(default="", repr=False)  # appended to the agent's clearml.conf; may hold credentials
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stop_grace: timedelta = timedelta(seconds=10)  # between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccess:
    """Where a ClearML API server is and how to be let in. The secret never goes to a log or an argument list."""

    api_url: str
    files_url: str
    web_url: str
    access_key: str
    secret_key: str = field(repr=False)
