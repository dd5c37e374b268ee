"""What is there: instances, their GPUs, and the tasks that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.model.offered import Offer
from fleet.model.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, or one MIG device, as its instance sees it. Utilisation and memory in use are the last heartbeat's."""

    index: int
    uuid: str
    model: str
    memory_gib: float
    util: float | None = None  # 0..100 per cent
    memory_used_gib: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    parent: str | None = None  # of a MIG device: the uuid of its GPU
    set_aside: Reason | None = None  # why no task may be given it now
    sick: str | None = None  # why nothing may compute on it; None: it is in service
    warning: str | None = None  # what people should know of it

    @property
    def is_mig(self) -> bool:
        return self.parent is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """How a machine itself does, as it last said. Rates are averages of about half a minute."""

    cpu_percent: float  # 0..100, of all processors together
    memory_used_gib: float
    memory_free_gib: float  # what programs can still get
    disk_free_percent: float  # where its user's home is
    disk_read_mib_per_s: float
    disk_write_mib_per_s: float
    network_rx_mib_per_s: float
    network_tx_mib_per_s: float


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
    # By queue: the GPUs of the machines that are smaller and cheaper. A task that one of those can hold is left to them for a moment.
    smaller: tuple[tuple[str, tuple[int, ...]], ...] = ()
    meant_for: tuple[str, ...] = ()  # while it is on its way: the tasks that it was launched for


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
class Instance:
    """A machine of ours, from intent to ledger. `id` is the intent's: it exists before the cloud gives its own."""

    id: str
    cluster: str
    offer: Offer  # what was asked for, at which price; once the cloud has confirmed it, what it is
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
    kept_awake: Reason | None = None  # what keeps it though it holds no task, as its supervisor saw last
    drain_by: datetime | None = None  # with an order to drain: what runs then is put back
    vitals: Vitals | None = None
    # Tasks that hold nothing here any more, and whose end the ClearML server does not know yet, as its supervisor says.
    unsettled: tuple[str, ...] = ()

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
        """It will pull, or once booted will pull, what waits: its state is one of TAKING_TASKS."""
        is_stopping = self.drain_requested_at or self.stopped_pulling_at
        return not (is_stopping or self.terminate_requested_at or self.goodbye_at or self.gone_at)

    def usd(self, at: datetime) -> float | None:
        """What it has cost until `at`, US dollars, per second from the cloud's confirmation; None if the price is unknown."""
        if self.offer.price_usd_per_hour is None:
            return None
        start = self.launched_at or self.requested_at
        end = min(self.gone_at or at, at)
        return max((end - start).total_seconds(), 0.0) / 3600 * self.offer.price_usd_per_hour
