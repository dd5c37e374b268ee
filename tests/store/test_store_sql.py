"""What only a store on a disk must do: make its tables, outlive its process, hold its pace."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fleet.database import Database
from fleet.store.base import Store
from fleet.store.sql import SqlStore
from fleet.store.tables import METADATA
from tests.store.nouns import GPU0, IDLE, T0, a_run, an_event, an_instance, at, beat, holder, with_enrolled

WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.store.nouns import an_event, an_instance, at, beat
from fleet.database import Database
from fleet.store.sql import SqlStore

store = SqlStore(Database(sys.argv[1]))
for n in range(100_000):
    store.record_intents([an_instance(f"i{n}")])
    beat(store, f"i{n}", when=at(n))
    store.append_events([an_event(instance=f"i{n}")])
    print(n, flush=True)
"""


def test_the_migrations_make_the_tables_that_the_code_uses(open_sql: Callable[[], Store], url: str) -> None:
    open_sql()
    database = Database(url)
    with database.read() as connection:
        ours = {"include_name": lambda name, kind, _: kind != "table" or name in METADATA.tables}
        context = MigrationContext.configure(connection, opts=ours)
        differences = compare_metadata(context, METADATA)
    database.close()
    assert differences == []


def test_what_was_written_is_there_after_a_restart(open_sql: Callable[[], Store]) -> None:
    before = with_enrolled(open_sql())
    before.append_events([an_event()])
    beat(before, when=at(61), gpus=[GPU0], runs=[a_run()])
    after = open_sql()
    assert after.instances("c") == before.instances("c") != ()
    assert (after.runs(), after.events()) == (before.runs(), before.events())
    assert holder(after, "token-i1") == after.instance("i1")


def test_two_processes_share_one_store(open_sql: Callable[[], Store]) -> None:
    one, other = open_sql(), open_sql()
    one.record_intents([an_instance()])
    other.request_drain("i1", IDLE, at(1))
    instance = one.instance("i1")
    assert instance
    assert instance.drain_requested_at == at(1)
    assert one.take_lead("c", "one", T0, at(10))
    assert not other.take_lead("c", "other", T0, at(10))


@pytest.mark.system
def test_a_writer_that_is_killed_leaves_what_it_had_written(open_sql: Callable[[], Store], url: str) -> None:
    command = [sys.executable, "-c", WRITER, url, str(Path(__file__).parents[2])]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    while int(writer.stdout.readline()) < 50:
        pass
    writer.send_signal(signal.SIGKILL)
    written = [50, *map(int, writer.stdout.read().split())][-1]
    writer.wait()
    store = open_sql()
    assert {f"i{n}" for n in range(written + 1)} <= {i.id for i in store.instances("c")}
    assert len(store.events(limit=100_000)) >= written + 1
    store.append_events([an_event()])
    store.request_drain("i0", IDLE, at(1))


def test_what_changed_is_read_anew_among_five_thousand_that_did_not(open_sql: Callable[[], Store]) -> None:
    store = open_sql()
    gpus = [replace(GPU0, index=n, uuid=f"GPU-{n}") for n in range(8)]
    store.record_intents([replace(an_instance(f"i{n:04}", requested_at=at(n)), gpus=tuple(gpus)) for n in range(5000)])
    assert len(store.instances("c")) == 5000
    busy = beat(store, "i0017", when=at(9000), gpus=gpus[:1])
    store.note_gone("i0018", IDLE, at(9000))
    again = store.instances("c")
    assert (len(again), again[16].id, again[17], again[18].id) == (4999, "i0016", busy, "i0019")


def test_those_that_are_gone_are_not_in_the_way_of_those_that_live(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/fleet.db")
    SqlStore(database)
    query = "SELECT id FROM fleet_instance WHERE cluster = 'c' AND gone_at IS NULL ORDER BY requested_at, id"
    with database.read() as connection:
        (step,) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
    assert "INDEX fleet_instance_by_age (cluster=? AND gone_at=?)" in str(step)
