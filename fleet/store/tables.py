"""The tables, and how nouns become rows and are read back. The only place that knows both.

Times are seconds since 1970 (exact to the microsecond), so that money can be summed by SQL on every database;
nouns inside a row are JSON. `migrations/versions` makes these tables; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from fleet.model import Allocation, Event, Gpu, Instance, Offer, Reason, Run, RunResult, Standing, Turns, View, Vitals


class Time(sa.TypeDecorator[datetime]):
    """An aware time, kept as seconds since 1970."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: sa.Dialect) -> float | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"a time without its offset cannot be stored: {value}")
        return None if value is None else value.timestamp()

    def process_result_value(self, value: float | None, _dialect: sa.Dialect | None) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)


class Json(sa.TypeDecorator[Any]):
    """A noun of fleet.model, or a tuple of them, kept as JSON text: read and written whole, so no database need look in.

    Fields of a newer version are ignored when read.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: Any, remember: int = 0) -> None:
        """`remember` that many values that were read: for those that many rows share and that never change."""
        super().__init__()
        self.kind = kind
        self.remember = remember
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self._write = adapter.dump_json
        self._read = lru_cache(remember)(adapter.validate_json) if remember else adapter.validate_json

    def process_bind_param(self, value: Any, _dialect: sa.Dialect) -> str | None:
        return None if value is None else self._write(value).decode()

    def process_result_value(self, value: str | None, _dialect: sa.Dialect | None) -> Any:
        return None if value is None else self._read(value)


METADATA = sa.MetaData()

INSTANCE = sa.Table(
    "fleet_instance",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cluster", sa.Text, nullable=False),
    sa.Column("offer", Json(Offer, remember=1024), nullable=False),
    sa.Column("reason", Json(Reason, remember=1024), nullable=False),
    sa.Column("requested_at", Time, nullable=False),
    sa.Column("cloud_id", sa.Text),
    sa.Column("launched_at", Time),
    sa.Column("enrolled_at", Time),
    sa.Column("heartbeat_at", Time),
    sa.Column("idle_since", Time),
    sa.Column("drain_requested_at", Time),
    sa.Column("stopped_pulling_at", Time),
    sa.Column("terminate_requested_at", Time),
    sa.Column("goodbye_at", Time),
    sa.Column("gone_at", Time),
    sa.Column("end_reason", Json(Reason, remember=1024)),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("gpus", Json(tuple[Gpu, ...]), nullable=False),
    sa.Column("allocations", Json(tuple[Allocation, ...]), nullable=False),
    sa.Column("standing", Json(Standing, remember=1024), nullable=False, server_default="{}"),
    sa.Column("kept_awake", Json(Reason, remember=1024)),
    sa.Column("drain_by", Time),
    sa.Column("vitals", Json(Vitals)),
    sa.Column("unsettled", Json(tuple[str, ...], remember=64), nullable=False, server_default="[]"),
    # Not part of the noun:
    sa.Column("price_usd_per_hour", sa.Double),  # the offer's; here so that SQL can sum money
    sa.Column("joined_by", sa.Text),  # SHA-256 of the join token that enrolled it
    sa.Column("token_hash", sa.Text, unique=True),  # SHA-256 of its supervisor's token
    sa.Column("token_issued_at", Time),  # NULL: it is not renewed
    sa.Column("successor_hash", sa.Text),  # of what it was offered, until it is first used
    sa.Column("successor_at", Time),
    sa.Index("fleet_instance_by_age", "cluster", "gone_at", "requested_at", "id"),
    sa.Index("fleet_instance_by_successor", "successor_hash", unique=True),
)
JOIN = sa.Table(
    "fleet_join",
    METADATA,
    sa.Column("join_hash", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
)
RUN = sa.Table(
    "fleet_run",
    METADATA,
    sa.Column("task", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, primary_key=True),
    sa.Column("claimed_at", Time, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("gpus", Json(tuple[str, ...]), nullable=False),
    sa.Column("enqueued_at", Time),
    sa.Column("started_at", Time),
    sa.Column("ended_at", Time),
    sa.Column("result", sa.Text),
    sa.Column("exit_code", sa.Integer),
    sa.Index("fleet_run_by_instance", "instance"),
    sa.Index("fleet_run_by_end", "ended_at"),
)
EVENT = sa.Table(
    "fleet_event",
    METADATA,
    # A number is never given twice, also when old events were forgotten.
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", Time, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("instance", sa.Text),
    sa.Column("task", sa.Text),
    sa.Column("queue", sa.Text),
    sa.Column("reason", Json(Reason, remember=1024)),
    sa.Index("fleet_event_by_instance", "instance", "seq"),
    sa.Index("fleet_event_by_task", "task", "seq"),
    sa.Index("fleet_event_by_age", "at"),
    sqlite_autoincrement=True,
)
LEAD = sa.Table(
    "fleet_lead",
    METADATA,
    sa.Column("cluster", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("until", Time, nullable=False),
)
VIEW = sa.Table(
    "fleet_view",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1: the last pass alone is kept
    sa.Column("view", Json(View), nullable=False),
)

TURNS = sa.Table(
    "fleet_turns",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1, as the view
    sa.Column("turns", Json(Turns, remember=4), nullable=False),  # read at every heartbeat, and mostly the same
)

INSTANCE_FIELDS = tuple(f.name for f in fields(Instance))
# As the database has them, see `read_instance`.
INSTANCE_COLUMNS = tuple(
    sa.type_coerce(column, column.type.impl_instance).label(column.name)
    if isinstance(column.type, Time | Json)
    else column
    for column in (INSTANCE.c[name] for name in INSTANCE_FIELDS)
)
RUN_COLUMNS = tuple(RUN.c[f.name] for f in fields(Run))
EVENT_COLUMNS = tuple(EVENT.c[f.name] for f in fields(Event))


def instance_row(instance: Instance) -> dict[str, Any]:
    """Its columns, as a new row."""
    row = {name: getattr(instance, name) for name in INSTANCE_FIELDS}
    return row | {"price_usd_per_hour": instance.offer.price_usd_per_hour}


def instance_changes(before: Instance, after: Instance) -> dict[str, Any]:
    """The columns that differ, so that a writer touches nothing but what it means to."""
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in INSTANCE_FIELDS)
    changed = {name: new for name, old, new in pairs if new != old}
    return changed | {"price_usd_per_hour": after.offer.price_usd_per_hour} if "offer" in changed else changed


def read_instance(row: Sequence[Any]) -> Instance:
    """From a row that begins with INSTANCE_COLUMNS."""
    return Instance(**{name: read(value) if read else value for name, read, value in zip(*_READERS, row, strict=False)})


class ReadInstances:
    """Reads the rows of thousands of instances; those that are as they were the last time are not parsed again."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Sequence[Any], Instance]] = {}

    def __call__(self, rows: Iterable[Sequence[Any]]) -> tuple[Instance, ...]:
        known, seen = self._last, {}
        for row in rows:
            last = known.get(row[0])
            seen[row[0]] = last if last and last[0] == row else (row, read_instance(row))
        self._last = seen
        return tuple(instance for _, instance in seen.values())


def _reader(column: sa.Column[Any]) -> Callable[[Any], Any] | None:
    kind = column.type
    return partial(kind.process_result_value, _dialect=None) if isinstance(kind, Time | Json) else None


_READERS = (INSTANCE_FIELDS, tuple(_reader(INSTANCE.c[name]) for name in INSTANCE_FIELDS))


def run_row(run: Run) -> dict[str, Any]:
    """Its columns, as a new row."""
    return {column.name: getattr(run, column.name) for column in RUN_COLUMNS}


def read_run(row: Mapping[Any, Any]) -> Run:
    """From the mapping of a row of RUN_COLUMNS."""
    return Run(**{**row, "result": None if row["result"] is None else RunResult(row["result"])})


def event_row(event: Event) -> dict[str, Any]:
    """Its columns, as a new row; the number is the database's to give."""
    return {column.name: getattr(event, column.name) for column in EVENT_COLUMNS if column.name != "seq"}
