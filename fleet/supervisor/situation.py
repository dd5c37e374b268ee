"""PURE: all that the decisions of a supervisor depend on (`fleet.supervisor.decide`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from fleet.model import Gpu, Notice, OnRebalance, Queue, Reason, Task, Turns
from fleet.queues.base import TaskStatus
from fleet.supervisor.groups import Links


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the server said of a task that runs here, when it was last asked."""

    status: TaskStatus | None  # None: it does not exist any more
    times: int  # how often in a row
    is_stop_asked: bool = False
    stop_asked_at: datetime | None = None  # first seen
    abort_callback_s: float = 0.0  # how long its own abort callback may take; 0 = it has none
    is_abort_callback_done: bool = False
    is_elsewhere: bool = False  # another worker reports it


@dataclass(frozen=True, slots=True, kw_only=True)
class Overuse:
    """A task on a part of a GPU uses more of its memory than its share."""

    used_gib: float
    allowed_gib: float
    times: int  # seen how often in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A task that holds its GPUs (or its CPU slot), from the claim until all its processes are gone."""

    task: Task
    gpus: tuple[str, ...]  # uuids
    is_stopping: bool = False
    start_error: str | None = None  # its agent could not be started
    starts_failed: int = 0  # on this machine, this time included
    sighting: Sighting | None = None
    overuse: Overuse | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStart:
    """How often the agent of a task could not be started here, and when last."""

    times: int
    at: datetime


NOTHING: Mapping[Any, Any] = MappingProxyType({})


class State(NamedTuple):
    """All that a decision depends on. A tuple, because one is made for each: that takes a third of a dataclass's time."""

    at: datetime
    enrolled_at: datetime
    gpus: tuple[Gpu, ...]  # that work now
    cpus: int
    server_seen_at: datetime  # last answer of the ClearML server
    centre_seen_at: datetime  # last answer of the dispatcher
    links: Links = NOTHING  # how near the GPUs are to each other
    sick: Mapping[str, str] = NOTHING  # GPUs out of service (uuids), and why
    held: tuple[Held, ...] = ()
    unsent: frozenset[str] = frozenset()  # ended tasks of which the server does not have the log or the result yet
    waiting: tuple[Task, ...] = ()
    seen_at: Mapping[str, datetime] = NOTHING  # when each of those was first seen
    peeked_at: datetime | None = None  # when `waiting` was asked for
    idle_since: datetime | None = None  # None while something is held
    drain: Reason | None = None  # ordered: pull no more, end when empty
    drain_by: datetime | None = None  # and what runs then is put back
    end: Reason | None = None  # ordered: end now
    stopped_pulling: Reason | None = None
    is_stopped_for_good: bool = True  # False: an order to drain did it, which may be taken back
    failed_starts: Mapping[str, FailedStart] = NOTHING
    served: Mapping[str, int] = NOTHING  # by queue, the number of the last claim that was for it
    has_started_up: bool = True  # its startup hooks are done
    awake_at: datetime | None = None  # when something else than a task was last seen to keep it awake
    notice: Notice | None = None  # the cloud's, that stands now


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the centre wants of this machine in general."""

    queues: tuple[Queue, ...]
    idle_timeout: timedelta | None
    contact_timeout: timedelta
    max_lifetime: timedelta | None
    # By queue: tasks of up to so many GPUs are left to smaller machines.
    above_gpus: Mapping[str, float] = field(default_factory=dict)
    # By queue: the GPUs of smaller, cheaper machines, which go first (`precedence`).
    smaller: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    turns: Turns | None = None  # None: the dispatcher has not said
    boot_timeout: timedelta | None = None  # for the startup hooks, from the enrolment on
    on_rebalance: OnRebalance = OnRebalance.DRAIN
