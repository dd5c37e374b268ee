"""The levels that hold for a machine are kept until others are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

import fleet.store.sql
from fleet.database import Database
from fleet.errors import StoreError
from fleet.model import Standing
from fleet.store.base import Store
from tests.store.nouns import IDLE, an_instance, at, beat, with_enrolled, with_instance

LEVELS = Standing(
    idle_timeout=timedelta(seconds=210), above_gpus=(("train", 2.0),), smaller=(("train", (1, 2)),), meant_for=("t1",)
)


def standing(store: Store, instance: str = "i1") -> Standing:
    found = store.instance(instance)
    assert found
    return found.standing


def test_the_last_word_counts(store: Store) -> None:
    with_enrolled(store)
    assert standing(store) == Standing()
    store.stand([("i1", LEVELS)])
    store.stand([("i1", LEVELS)])
    assert standing(store) == LEVELS
    assert beat(store, when=at(61)).standing == LEVELS, "a heartbeat hears it and leaves it"
    store.stand([("i1", Standing())])
    assert standing(store) == Standing()
    store.stand([])


def test_a_machine_is_launched_with_its_levels(store: Store) -> None:
    store.record_intents([replace(an_instance(), standing=LEVELS)])
    assert standing(store) == LEVELS


def test_what_is_gone_is_left_as_it_is(store: Store) -> None:
    with_instance(store).note_gone("i1", IDLE, at(1))
    store.stand([("i1", LEVELS)])
    assert standing(store) == Standing()


def test_levels_for_an_unknown_instance_are_refused_with_all_that_came_with_them(store: Store) -> None:
    with_instance(store)
    with pytest.raises(StoreError, match="'nobody'"):
        store.stand([("i1", LEVELS), ("nobody", LEVELS)])
    assert standing(store) == Standing()


def test_levels_outlive_a_restart(open_sql: Callable[[], Store]) -> None:
    with_instance(open_sql()).stand([("i1", LEVELS)])
    assert standing(open_sql()) == LEVELS


def test_instances_of_a_store_from_before_levels_are_kept_and_have_none(
    open_sql: Callable[[], Store], url: str
) -> None:
    migrate_to("0001", url)
    database = Database(url)
    with database.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO fleet_instance (id, cluster, offer, reason, requested_at, hostname, gpus, allocations) "
                "VALUES ('old', 'c', :offer, :reason, 1000.0, '', '[]', '[]')"
            ),
            {
                "offer": '{"resource": "gpu", "provider": "fake", "type": "t", "market": "spot", '
                '"price_usd_per_hour": 1.0, "gpus": 1, "seen_at": "2026-01-01T00:00:00+00:00"}',
                "reason": '{"code": "demand", "text": "a task waits"}',
            },
        )
    database.close()
    store = open_sql()
    assert [(i.id, i.standing) for i in store.instances("c")] == [("old", Standing())]
    store.stand([("old", LEVELS)])
    assert standing(open_sql(), "old") == LEVELS


def migrate_to(revision: str, url: str) -> None:
    """The tables as an older version of fleet made them."""
    script = ScriptDirectory(str(Path(fleet.store.sql.__file__).parent / "migrations"))
    environment = EnvironmentContext(Config(), script, fn=lambda rev, _: script._upgrade_revs(revision, rev))
    database = Database(url)
    with database.write() as connection:
        environment.configure(connection=connection, version_table="fleet_version")
        with environment:
            environment.run_migrations()
    database.close()
