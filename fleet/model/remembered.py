"""What is remembered: runs, events and the last pass."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleet.model.plans import Waiting
from fleet.model.reason import Reason
from fleet.model.wanted import GpuNeed


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
