"""What supervisor and dispatcher say to each other, and the only place where it becomes or was text.

    edge -> centre   POST /edge/v1/enroll      Enroll    -> Enrolled
    edge -> centre   POST /edge/v1/heartbeat   Heartbeat -> Orders
    edge -> centre   GET  /edge/v1/certificate               the authority's certificate, before all: see fleet.pinned
    edge -> centre   GET  /edge/v1/hint?after=N&wait_s=25 -> {"seq": M}   a hint that work may wait; never the truth

The VM always calls; nothing calls the VM. Facts go up, decisions come down. Both are levels: a lost message is
repeated by the next one. After `Enroll`, every call carries `Authorization: Bearer <token>`:
the newest of `Enrolled.token` and `Orders.token`.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from fleet.errors import WireError
from fleet.model import (
    AgentSettings,
    Allocation,
    Gpu,
    KeepAwake,
    Notice,
    Queue,
    Reason,
    Run,
    ServerAccess,
    Turns,
    Vitals,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a cloud says of one of its machines, signed by the cloud."""

    kind: str  # ec2: an instance identity document in its RSA-2048 signature; gce: an identity token
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enroll:
    """A new machine presents itself. The join token works once, and only for the instance it was made for."""

    instance: str
    join_token: str
    hostname: str
    cpus: int
    memory_gib: float
    gpus: tuple[Gpu, ...]
    fleet_version: str
    proof: Proof | None = None
    renews: bool = False  # it takes the tokens that Orders carry; the token of one that does not lives as long as it


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """All that a supervisor needs to work, also alone."""

    instance: str
    token: str  # for later calls, until Orders carry another; dies with the instance
    cluster: str
    resource: str
    server: ServerAccess
    queues: tuple[Queue, ...]  # that this machine may pull from, most urgent first
    agent: AgentSettings
    idle_timeout: timedelta | None  # None = never end for idleness
    poll_interval: timedelta
    heartbeat_interval: timedelta
    contact_timeout: timedelta  # without any contact so long: end the tasks, then the machine (fencing)
    max_lifetime: timedelta | None
    min_driver: str | None = None  # GPUs under an older driver are out of service
    above_gpus: Mapping[str, float] = field(default_factory=dict)  # as in Orders
    smaller: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # as in Orders
    turns: Turns | None = None  # as in Orders
    keep_awake: KeepAwake = field(default_factory=KeepAwake)
    boot_timeout: timedelta | None = None  # its startup hooks must be done so long after it enrolled


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Facts of one machine, whole, each time."""

    instance: str
    at: datetime
    is_pulling: bool  # False: it takes no more tasks
    is_ending: bool  # True: goodbye, this machine is ending itself
    reason: Reason | None  # why it stopped pulling or ends
    idle_since: datetime | None  # None while it holds a task
    allocations: tuple[Allocation, ...]
    runs: tuple[Run, ...]  # current ones, and ended ones until Orders.runs_seen names them
    gpus: tuple[Gpu, ...]
    vitals: Vitals | None = None  # of the machine itself; None until it has read them
    notice: Notice | None = None  # the cloud's, that stands now


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the centre wants of this machine now."""

    drain: Reason | None  # pull no more, end when empty
    end: Reason | None  # end now: stop the tasks, put them back
    queues: tuple[Queue, ...]  # replaces the ones of Enrolled
    idle_timeout: timedelta | None  # replaces the one of Enrolled; None while `min_instances` keeps this machine
    runs_seen: tuple[str, ...]  # tasks whose ended run is in the ledger
    hint: int  # the newest hint, to listen after
    # By queue: take only tasks of more GPUs than so many, because smaller ones have cheaper machines.
    above_gpus: Mapping[str, float] = field(default_factory=dict)
    # By queue: the GPUs of smaller, cheaper machines. A task that one of those can hold is left to them for a moment.
    smaller: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    # Whose turn it is, without what this machine holds itself. None: a dispatcher that does not know, so by priority alone.
    turns: Turns | None = None
    # With `drain`: so long from now on its tasks may run; then what is left is put back. None: until they end by themselves.
    drain_within: timedelta | None = None
    # For all calls from now on, once it is kept; the one before works until this is first used. None: go on with that one.
    token: str | None = field(default=None, repr=False)


T = TypeVar("T")


def to_data(value: Any) -> Any:
    """The plain JSON value of a wire object: times as ISO-8601 UTC, durations as seconds, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(k): to_data(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_data(v) for v in value]
    return value


def from_data(kind: type[T], data: object, path: str = "") -> T:
    """Read `kind` back from plain JSON. Unknown fields are ignored, so that versions can differ by one.

    Raises:
        WireError: a field is missing or of the wrong type; the text names its path.
    """
    try:
        return typing.cast(T, _read(kind, data, path or kind.__name__))
    except (ValueError, OverflowError) as error:
        raise WireError(f"unreadable {kind.__name__}: {error}") from error


def _read(hint: Any, data: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        (only,) = [a for a in args if a is not type(None)]
        return _read(only, data, path)
    if origin is tuple:
        _expect(isinstance(data, list), "a list", data, path)
        return tuple(_read(args[0], item, f"{path}[{i}]") for i, item in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(data, dict), "an object", data, path)
        return {k: _read(args[1], v, f"{path}.{k}") for k, v in data.items()}
    if dataclasses.is_dataclass(hint):
        return _read_fields(hint, data, path)
    return _read_scalar(hint, data, path)


def _read_fields(kind: Any, data: Any, path: str) -> Any:
    _expect(isinstance(data, dict), "an object", data, path)
    values = {}
    for name, hint, is_required in _fields(kind):
        if name in data:
            values[name] = _read(hint, data[name], f"{path}.{name}")
        else:
            _expect(not is_required, "a value", None, f"{path}.{name}")
    return kind(**values)


@functools.cache  # reading the hints takes longer than reading the data
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type, and whether a value must be given."""
    hints, missing = typing.get_type_hints(kind), dataclasses.MISSING
    return tuple(
        (f.name, hints[f.name], f.default is missing and f.default_factory is missing) for f in dataclasses.fields(kind)
    )


def _read_scalar(hint: Any, data: Any, path: str) -> Any:
    if hint is datetime:
        _expect(isinstance(data, str), "a time", data, path)
        at = datetime.fromisoformat(data)
        _expect(at.tzinfo is not None, "a time with its offset", data, path)
        # A clock may be wrong, but a time at the edge of the calendar would break whoever reckons with it.
        _expect(1970 <= at.year < 9000, "a time between 1970 and 9000", data, path)
        return at.astimezone(UTC)
    if hint is timedelta:
        _expect(isinstance(data, int | float) and not isinstance(data, bool), "seconds", data, path)
        return timedelta(seconds=data)
    if hint is float:
        _expect(isinstance(data, int | float) and not isinstance(data, bool), "a number", data, path)
        return float(data)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(data)
    if hint is object or hint is Any:
        return data
    _expect(isinstance(data, hint) and (hint is bool or not isinstance(data, bool)), hint.__name__, data, path)
    return data


def _expect(holds: bool, wanted: str, data: Any, path: str) -> None:
    if not holds:
        raise WireError(f"{path}: expected {wanted}, got {type(data).__name__}")
