"""The memory in SQLite or PostgreSQL, by one schema: each verb is one transaction.

A verb that changes an instance reads its row locked, lets `fleet.store.life` say what becomes of it, and writes the
columns that differ. So both stores follow the same rules, and two who write at once follow one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fleet.database import Database
from fleet.errors import StoreError
from fleet.model import Allocation, Event, Gpu, Instance, Offer, Reason, Run, Spent, Standing, Turns, View, Vitals
from fleet.store import life
from fleet.store.base import OFFERED_ANEW_AFTER, Bearer
from fleet.store.tables import (
    EVENT,
    EVENT_COLUMNS,
    INSTANCE,
    INSTANCE_COLUMNS,
    JOIN,
    LEAD,
    RUN,
    RUN_COLUMNS,
    TURNS,
    VIEW,
    ReadInstances,
    event_row,
    instance_changes,
    instance_row,
    read_instance,
    read_run,
    run_row,
)

# Databases hold infinity and what is no number to be more than this.
NO_PRICE = 1e12
MIGRATIONS = Path(__file__).parent / "migrations"

# Built once: a heartbeat of each of thousands of machines runs these.
ONE = sa.select(*INSTANCE_COLUMNS, INSTANCE.c.joined_by).where(INSTANCE.c.id == sa.bindparam("key"))
ONE_LOCKED = ONE.with_for_update()
CHANGE_ONE = sa.update(INSTANCE).where(INSTANCE.c.id == sa.bindparam("key"))
AGES = (INSTANCE.c.successor_hash, INSTANCE.c.token_issued_at, INSTANCE.c.successor_at)
BY_TOKEN = sa.or_(INSTANCE.c.token_hash == sa.bindparam("token"), INSTANCE.c.successor_hash == sa.bindparam("token"))
WHO = sa.select(*INSTANCE_COLUMNS, *AGES).where(BY_TOKEN, INSTANCE.c.gone_at.is_(None))
NO_SUCCESSOR = {"successor_hash": None, "successor_at": None}
TAKE_UP = (
    sa.update(INSTANCE)
    .where(INSTANCE.c.successor_hash == sa.bindparam("token"))
    .values(token_hash=INSTANCE.c.successor_hash, token_issued_at=INSTANCE.c.successor_at, **NO_SUCCESSOR)
)


class SqlStore:
    """Fulfils `fleet.store.base.Store`; safe to use from many threads, and from several processes."""

    def __init__(self, database: Database, on_change: life.OnChange = life.ignore_change) -> None:
        """Bring the tables of `database` up to date and use them. See `life.OnChange` for what `on_change` hears.

        Raises:
            StoreError: the database does not answer.
        """
        self._database = database
        self._on_change = on_change
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert
        self._read_instances = ReadInstances()
        self._keep_run = self._upsert_of_run()
        database.migrate(MIGRATIONS, "fleet_version")

    # --- the dispatcher's verbs

    def take_lead(self, cluster: str, holder: str, at: datetime, until: datetime) -> bool:
        ask = self._insert(LEAD).on_conflict_do_update(
            index_elements=[LEAD.c.cluster],
            set_={"holder": holder, "until": until},
            where=sa.or_(LEAD.c.holder == holder, LEAD.c.until <= at),
        )
        with self._database.write() as connection:
            return _count(connection, ask, {"cluster": cluster, "holder": holder, "until": until}) == 1

    def give_up_lead(self, cluster: str, holder: str) -> None:
        with self._database.write() as connection:
            connection.execute(sa.delete(LEAD).where(LEAD.c.cluster == cluster, LEAD.c.holder == holder))

    def record_intents(self, instances: Sequence[Instance]) -> None:
        if instances:
            with self._database.write() as connection:
                insert = self._insert(INSTANCE).on_conflict_do_nothing(index_elements=[INSTANCE.c.id])
                connection.execute(insert, [instance_row(i) for i in instances])

    def note_launched(self, instance: str, cloud_id: str, at: datetime, offer: Offer | None = None) -> None:
        self._change(instance, lambda i: life.launched(i, cloud_id, at, offer))

    def request_drain(self, instance: str, reason: Reason, at: datetime, by: datetime | None = None) -> None:
        self._order(instance, lambda i: life.draining(i, reason, at, by))

    def cancel_drain(self, instance: str, reason: Reason, at: datetime) -> None:
        self._order(instance, life.undrained)

    def stand(self, standings: Sequence[tuple[str, Standing]]) -> None:
        if not standings:
            return
        with self._database.write() as connection:
            for instance, wanted in standings:
                before = self._locked(connection, instance)
                _write_changes(connection, before, life.standing(before, wanted))

    def request_terminate(self, instance: str, reason: Reason, at: datetime) -> None:
        self._order(instance, lambda i: life.terminating(i, reason, at))

    def note_gone(self, instance: str, reason: Reason, at: datetime) -> None:
        self._change(instance, lambda i: life.gone(i, reason, at))

    def close_run(self, run: Run) -> None:
        with self._database.write() as connection:
            self._locked(connection, run.instance)
            has_ended = self._keep_runs(connection, [run])
        if has_ended:
            self._on_change("runs_ended")

    def remember_view(self, view: View) -> None:
        insert = self._insert(VIEW).values(id=1, view=view)
        with self._database.write() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=[VIEW.c.id], set_={"view": view}))

    def remember_turns(self, turns: Turns) -> None:
        before = self.turns()
        if turns == before:
            return
        insert = self._insert(TURNS).values(id=1, turns=turns)
        with self._database.write() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=[TURNS.c.id], set_={"turns": turns}))
        if life.is_told_at_once(before, turns):
            self._on_change("turns")

    def forget_events(self, before: datetime) -> int:
        with self._database.write() as connection:
            return connection.execute(sa.delete(EVENT).where(EVENT.c.at < before)).rowcount

    def forget_runs(self, before: datetime) -> int:
        with self._database.write() as connection:
            connection.execute(sa.delete(JOIN).where(JOIN.c.expires_at < before))
            return connection.execute(sa.delete(RUN).where(RUN.c.ended_at < before)).rowcount

    # --- the edge's verbs

    def expect(self, instance: str, join_hash: str, expires_at: datetime) -> None:
        insert = self._insert(JOIN).values(join_hash=join_hash, instance=instance, expires_at=expires_at)
        with self._database.write() as connection:
            self._locked(connection, instance)
            connection.execute(insert.on_conflict_do_nothing(index_elements=[JOIN.c.join_hash]))

    def enroll(
        self,
        instance: str,
        join_hash: str,
        token_hash: str,
        hostname: str,
        gpus: Sequence[Gpu],
        at: datetime,
        renews: bool = False,
    ) -> Instance | None:
        joins = sa.select(JOIN.c.join_hash).where(
            JOIN.c.join_hash == join_hash, JOIN.c.instance == instance, JOIN.c.expires_at > at
        )
        with self._database.write() as connection:
            row = connection.execute(ONE_LOCKED, {"key": instance}).one_or_none()
            if row is None or connection.execute(joins).one_or_none() is None:
                return None
            before = read_instance(row)
            if not life.may_enroll(before, join_hash, row.joined_by):
                return None
            after = life.enrolled(before, hostname, gpus, at)
            tokens = {"joined_by": join_hash, "token_hash": token_hash, "token_issued_at": at if renews else None}
            changes = {"key": instance} | instance_changes(before, after) | tokens | NO_SUCCESSOR
            connection.execute(CHANGE_ONE, changes)
        self._on_change("enrolled")
        return after

    def who(self, token_hash: str) -> Bearer | None:
        with self._database.read() as connection:
            row = connection.execute(WHO, {"token": token_hash}).one_or_none()
        if row is None:
            return None
        successor, issued_at, successor_at = row[-len(AGES) :]
        is_successor = successor == token_hash
        return Bearer(
            instance=read_instance(row),
            issued_at=successor_at if is_successor else issued_at,
            is_successor=is_successor,
        )

    def offer(self, token_hash: str, successor_hash: str, at: datetime) -> bool:
        offered_at = INSTANCE.c.successor_at
        is_free = sa.or_(offered_at.is_(None), offered_at <= at - OFFERED_ANEW_AFTER)
        change = sa.update(INSTANCE).where(INSTANCE.c.token_hash == token_hash, is_free)
        with self._database.write() as connection:
            return connection.execute(change.values(successor_hash=successor_hash, successor_at=at)).rowcount == 1

    def take_up(self, token_hash: str) -> None:
        with self._database.write() as connection:
            connection.execute(TAKE_UP, {"token": token_hash})

    def beat(
        self,
        instance: str,
        *,
        at: datetime,
        is_pulling: bool,
        is_ending: bool,
        reason: Reason | None,
        idle_since: datetime | None,
        allocations: Sequence[Allocation],
        runs: Sequence[Run],
        gpus: Sequence[Gpu],
        vitals: Vitals | None = None,
        unsettled: Sequence[str] = (),
    ) -> Instance:
        with self._database.write() as connection:
            before = self._locked(connection, instance)
            after = life.heard(
                before,
                at=at,
                is_pulling=is_pulling,
                is_ending=is_ending,
                reason=reason,
                idle_since=idle_since,
                allocations=allocations,
                gpus=gpus,
                vitals=vitals,
                unsettled=unsettled,
            )
            _write_changes(connection, before, after)
            has_ended = self._keep_runs(connection, life.runs_of(before, after, at, runs))
        for kind in life.changes_of_beat(before, after, has_ended):
            self._on_change(kind)
        return after

    # --- everybody's verbs

    def instances(self, cluster: str, gone_after: datetime | None = None) -> tuple[Instance, ...]:
        wanted: sa.ColumnElement[bool] = INSTANCE.c.gone_at.is_(None)
        if gone_after is not None:
            wanted = sa.or_(wanted, INSTANCE.c.gone_at >= gone_after)
        query = sa.select(*INSTANCE_COLUMNS).where(INSTANCE.c.cluster == cluster, wanted)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(INSTANCE.c.requested_at, INSTANCE.c.id)).all()
        return self._read_instances(rows)

    def instance(self, instance: str) -> Instance | None:
        with self._database.read() as connection:
            row = connection.execute(ONE, {"key": instance}).one_or_none()
        return None if row is None else read_instance(row)

    def runs(
        self, task: str | None = None, instance: str | None = None, ended_after: datetime | None = None
    ) -> tuple[Run, ...]:
        query = sa.select(*RUN_COLUMNS).order_by(RUN.c.claimed_at, RUN.c.task, RUN.c.instance)
        if task is not None:
            query = query.where(RUN.c.task == task)
        if instance is not None:
            query = query.where(RUN.c.instance == instance)
        if ended_after is not None:
            query = query.where(sa.or_(RUN.c.ended_at.is_(None), RUN.c.ended_at >= ended_after))
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(map(read_run, rows))

    def tasks_like(self, prefix: str, limit: int) -> tuple[str, ...]:
        # SQLite's LIKE takes capitals for small letters.
        is_like = RUN.c.task.startswith(prefix, autoescape=True), sa.func.substr(RUN.c.task, 1, len(prefix)) == prefix
        query = sa.select(RUN.c.task).where(*is_like).distinct().order_by(RUN.c.task).limit(limit)
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def append_events(self, events: Sequence[Event]) -> None:
        if not events:
            return
        with self._database.write() as connection:
            if not self._database.is_sqlite:
                # Numbers must become visible in their order: who follows "after 11" never looks back for a 10.
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('fleet_event'))"))
            connection.execute(sa.insert(EVENT), [event_row(event) for event in events])

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        instance: str | None = None,
        task: str | None = None,
        kind: str | None = None,
    ) -> tuple[Event, ...]:
        query = sa.select(*EVENT_COLUMNS).limit(limit)
        query = query.where(EVENT.c.seq > after).order_by(EVENT.c.seq) if after else query.order_by(EVENT.c.seq.desc())
        if instance is not None:
            query = query.where(EVENT.c.instance == instance)
        if task is not None:
            query = query.where(EVENT.c.task == task)
        if kind is not None:
            query = query.where(EVENT.c.kind == kind)
        with self._database.read() as connection:
            events = [Event(**row) for row in connection.execute(query).mappings()]
        return tuple(events if after else reversed(events))

    def turns(self) -> Turns:
        with self._database.read() as connection:
            turns: Turns | None = connection.execute(sa.select(TURNS.c.turns)).scalar()
        return turns or Turns()

    def view(self) -> View | None:
        with self._database.read() as connection:
            view: View | None = connection.execute(sa.select(VIEW.c.view)).scalar()
        return view

    def usd_since(self, cluster: str, since: datetime, at: datetime) -> float:
        seconds: sa.Double[float] = sa.Double()
        gone_at = sa.type_coerce(INSTANCE.c.gone_at, seconds)
        paid_from = sa.type_coerce(sa.func.coalesce(INSTANCE.c.launched_at, INSTANCE.c.requested_at), seconds)
        first, last = since.timestamp(), at.timestamp()
        start = sa.case((paid_from > first, paid_from), else_=first)
        end = sa.case((gone_at < last, gone_at), else_=last)
        query = sa.select(sa.func.sum((end - start) / 3600 * INSTANCE.c.price_usd_per_hour)).where(
            INSTANCE.c.cluster == cluster, sa.or_(gone_at.is_(None), gone_at > first), end > start
        )
        with self._database.read() as connection:
            return float(connection.execute(query).scalar() or 0.0)

    def spent_by_gone(self, cluster: str, since: datetime) -> tuple[Spent, ...]:
        seconds: sa.Double[float] = sa.Double()
        gone_at, launched_at, requested_at = (
            sa.type_coerce(INSTANCE.c[name], seconds) for name in ("gone_at", "launched_at", "requested_at")
        )
        first, least = since.timestamp(), launched_at + life.LEAST_BILLED.total_seconds()
        start = sa.case((requested_at > first, requested_at), else_=first)
        end = sa.case((least > gone_at, least), else_=gone_at)
        price = INSTANCE.c.price_usd_per_hour
        usd = sa.func.sum((end - start) / 3600 * price)
        queue, user = self._of_reason("queue"), self._of_reason("user")
        is_priced = sa.and_(price > 0, price < NO_PRICE)
        query = sa.select(queue, user, usd).where(
            INSTANCE.c.cluster == cluster, is_priced, gone_at > first - life.LEAST_BILLED.total_seconds(), end > start
        )
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(queue, user)).all()
        return tuple(Spent(queue=queue, user=user, usd=usd or 0.0) for queue, user, usd in rows)

    def _of_reason(self, name: str) -> sa.ColumnElement[Any]:
        """A text of the launch's reason, which is JSON."""
        reason = sa.type_coerce(INSTANCE.c.reason, sa.Text)
        if self._database.is_sqlite:
            return sa.func.json_extract(reason, sa.literal_column(f"'$.{name}'"))
        return sa.func.json_extract_path_text(sa.cast(reason, postgresql.JSON), sa.literal_column(f"'{name}'"))

    # --- what the verbs share

    def _order(self, instance: str, rule: Callable[[Instance], Instance]) -> None:
        if self._change(instance, rule):
            self._on_change("orders")

    def _change(self, instance: str, rule: Callable[[Instance], Instance]) -> bool:
        """Let `rule` say what becomes of this instance, and write that. False: nothing changed."""
        with self._database.write() as connection:
            before = self._locked(connection, instance)
            after = rule(before)
            return _write_changes(connection, before, after)

    def _locked(self, connection: sa.Connection, instance: str) -> Instance:
        row = connection.execute(ONE_LOCKED, {"key": instance}).one_or_none()
        if row is None:
            raise StoreError(f"instance {instance!r} is not in the store; look at `fleet status` for the ones that are")
        return read_instance(row)

    def _keep_runs(self, connection: sa.Connection, runs: Sequence[Run]) -> bool:
        """Write these attempts; one that has ended in the store is left as it is. True: one has ended by this."""
        running = [run_row(run) for run in runs if not run.ended_at]
        if running:
            connection.execute(self._keep_run, running)
        ended = [_count(connection, self._keep_run, run_row(run)) for run in runs if run.ended_at]
        return any(count == 1 for count in ended)

    def _upsert_of_run(self) -> sa.Insert:
        """What `life.reported` says, in SQL."""
        key = [RUN.c.task, RUN.c.instance, RUN.c.claimed_at]
        insert = self._insert(RUN)
        facts = {c.name: insert.excluded[c.name] for c in RUN.columns if c not in key}
        return insert.on_conflict_do_update(index_elements=key, set_=facts, where=RUN.c.ended_at.is_(None))


def _count(connection: sa.Connection, upsert: sa.Insert, row: Mapping[str, Any]) -> int:
    """How many rows this wrote; for an INSERT one has to ask beforehand."""
    return connection.execute(upsert, row, execution_options={"preserve_rowcount": True}).rowcount


def _write_changes(connection: sa.Connection, before: Instance, after: Instance) -> bool:
    changes = instance_changes(before, after)
    if changes:
        connection.execute(CHANGE_ONE, {"key": before.id} | changes)
    return bool(changes)
