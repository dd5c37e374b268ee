"""What the other threads tell the main one. Each event is a fact that happened; only the main thread acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from agent_hooks.hooks import HookFailure
from agent_hooks.host import HostReading
from agent_hooks.nearness import Links
from fleet.errors import FleetError
from fleet.model import Notice, Reason, RunResult, Task
from fleet.queues.base import TaskState
from fleet.supervisor.agents import Agent
from fleet.supervisor.senses import Sight
from fleet.wire import Heartbeat, Orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Hinted:
    """The dispatcher says that work may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """The dispatcher's answer to a heartbeat."""

    orders: Orders
    to: Heartbeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The dispatcher, or the agent's settings, leave this machine no purpose."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Peeked:
    """What waits in the queues."""

    tasks: tuple[Task, ...]
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The answer to a claim: it is ours, somebody else's, or (error) nobody knows."""

    key: str
    is_ours: bool
    error: FleetError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The states of the tasks that run here; one that was deleted is missing."""

    asked: tuple[str, ...]  # keys of their jobs
    states: Mapping[str, TaskState]
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An errand could not be done; it is repeated when it is due again."""

    errand: str
    error: FleetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensed:
    """The machine as it was when its workers were reported: what an `Ailing` has told since is newer."""

    sight: Sight
    host: HostReading


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailing:
    """The driver told of an error of a GPU: all of them, as they are now."""

    sight: Sight


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """The GPU memory that tasks on parts of a GPU use now; one that uses none is missing."""

    asked: tuple[str, ...]  # keys of their jobs
    used_gib: Mapping[str, float]  # by key


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Whether GPUs are free, as their driver says."""

    at: datetime
    asked: Mapping[str, bool]  # uuid -> whether for a task on a part of it
    in_use: Mapping[str, str]  # uuid -> why it is not free
    links: Links  # between all GPUs that were ever seen
    linked: frozenset[str]  # their uuids


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAwake:
    """What else than a task keeps this machine awake; None: nothing."""

    reason: Reason | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """What the cloud's notices come to now. None: they were all taken back."""

    notice: Notice | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedUp:
    """The hooks of the machine's start have run."""

    failure: HookFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The hooks before a task have run."""

    key: str
    failure: HookFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The agent runs, or (`error`) cannot be started: not now, or (`is_final`) never."""

    key: str
    agent: Agent | None
    error: str = ""
    is_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """The server knows that the task is in progress, or (not `is_ours`) has it otherwise by now."""

    key: str
    at: datetime
    is_ours: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """The agent has ended."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """The agent's console has ended, and is whole in its spool."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedUp:
    """The hooks after a task have run."""

    key: str
    failure: HookFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The server has the whole log and the result of a task, or refused them."""

    key: str
    result: RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The server has taken our wish that a task saves itself, and its script will hear it."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unasked:
    """The task's script has no abort callback to be asked by; or, with an error, the server did not take our wish."""

    key: str
    error: FleetError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signalled:
    """SIGTERM or SIGINT."""

    number: int


Event = (
    Hinted
    | Ordered
    | Refused
    | Peeked
    | Claimed
    | Watched
    | Failed
    | Sensed
    | Ailing
    | Metered
    | Looked
    | FoundAwake
    | Noticed
    | StartedUp
    | Prepared
    | Started
    | Announced
    | Exited
    | Silent
    | CleanedUp
    | Settled
    | Asked
    | Unasked
    | Signalled
)
