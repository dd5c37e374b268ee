"""The tables, and how nouns become rows and are read back. The only place that knows both.

Times are seconds since 1970 (exact to the microsecond), so that money can be summed by SQL on every database;
nouns inside a row are JSON. `migrations/versions` makes these tables; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from fleet.model import Allocation, Event, Gpu, Instance, Offer, Reason, Run, RunResult, View


class Time(sa.TypeDecorator[datetime]):
    """An aware time, kept as seconds since 1970."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: sa.Dialect) -> float | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"a time without its offset cannot be stored: {value}")
        return None if value is None else value.timestamp()

    def process_result_value(self, value: float | None, _dialect: sa.Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)


class Json(sa.TypeDecorator[Any]):
    """A noun of fleet.model, or a tuple of them, kept as JSON. Fields of a newer version are ignored when read."""

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__(none_as_null=True)
        self.kind = kind
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def process_bind_param(self, value: Any, _dialect: sa.Dialect) -> Any:
        return None if value is None else self._adapter.dump_python(value, mode="json")

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Any:
        return None if value is None else self._adapter.validate_python(value)


METADATA = sa.MetaData()

INSTANCE = sa.Table(
    "fleet_instance",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cluster", sa.Text, nullable=False),
    sa.Column("offer", Json(Offer), nullable=False),
    sa.Column("reason", Json(Reason), nullable=False),
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
    sa.Column("end_reason", Json(Reason)),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("gpus", Json(tuple[Gpu, ...]), nullable=False),
    sa.Column("allocations", Json(tuple[Allocation, ...]), nullable=False),
    # Not part of the noun:
    sa.Column("price_usd_per_hour", sa.Double),  # the offer's, which never changes; here so that SQL can sum money
    sa.Column("joined_by", sa.Text),  # SHA-256 of the join token that enrolled it
    sa.Column("token_hash", sa.Text, unique=True),  # SHA-256 of its supervisor's token
    sa.Index("fleet_instance_by_age", "cluster", "gone_at", "requested_at", "id"),
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
    sa.Column("reason", Json(Reason)),
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

INSTANCE_FIELDS = tuple(f.name for f in fields(Instance))
INSTANCE_COLUMNS = tuple(INSTANCE.c[name] for name in INSTANCE_FIELDS)
RUN_COLUMNS = tuple(RUN.c[f.name] for f in fields(Run))
EVENT_COLUMNS = tuple(EVENT.c[f.name] for f in fields(Event))


def instance_row(instance: Instance) -> dict[str, Any]:
    """Its columns, as a new row."""
    row = {name: getattr(instance, name) for name in INSTANCE_FIELDS}
    return row | {"price_usd_per_hour": instance.offer.price_usd_per_hour}


def instance_changes(before: Instance, after: Instance) -> dict[str, Any]:
    """The columns that differ, so that a writer touches nothing but what it means to."""
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in INSTANCE_FIELDS)
    return {name: new for name, old, new in pairs if new != old}


def read_instance(row: Mapping[Any, Any]) -> Instance:
    """From the mapping of a row of INSTANCE_COLUMNS, or of more columns than these."""
    return Instance(**{name: row[name] for name in INSTANCE_FIELDS})


def run_row(run: Run) -> dict[str, Any]:
    """Its columns, as a new row."""
    return {column.name: getattr(run, column.name) for column in RUN_COLUMNS}


def read_run(row: Mapping[Any, Any]) -> Run:
    """From the mapping of a row of RUN_COLUMNS."""
    return Run(**{**row, "result": None if row["result"] is None else RunResult(row["result"])})


def event_row(event: Event) -> dict[str, Any]:
    """Its columns, as a new row; the number is the database's to give."""
    return {column.name: getattr(event, column.name) for column in EVENT_COLUMNS if column.name != "seq"}
