"""fleet/database.py: transactions that say whether they write, and migrations that may run at every start."""

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet.database import Database
from fleet.errors import StoreError

REVISION = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "0001", None
def upgrade():
    op.create_table("thing", sa.Column("n", sa.Integer, primary_key=True))
"""


def a_database(tmp_path: Path) -> Database:
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (versions / "0001_thing.py").write_text(REVISION)
    database = Database(f"sqlite:///{tmp_path}/x.db")
    database.migrate(tmp_path / "migrations", "version_x")
    return database


def test_migrations_may_run_at_every_start(tmp_path: Path) -> None:
    a_database(tmp_path)
    database = a_database(tmp_path)
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM version_x")).scalars().all() == ["0001"]


def test_writers_in_many_threads_wait_for_each_other(tmp_path: Path) -> None:
    database = a_database(tmp_path)

    def write(start: int) -> None:
        for n in range(start, start + 20):
            with database.write() as connection:
                connection.execute(sa.text("INSERT INTO thing VALUES (:n)"), {"n": n})

    threads = [threading.Thread(target=write, args=(100 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM thing")).scalar() == 160


def test_a_failed_block_leaves_nothing_behind(tmp_path: Path) -> None:
    database = a_database(tmp_path)
    with pytest.raises(KeyError), database.write() as connection:
        connection.execute(sa.text("INSERT INTO thing VALUES (1)"))
        raise KeyError
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM thing")).scalar() == 0


def test_a_url_that_cannot_be_read_is_one_line() -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Database("no-such-thing")


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with a_database(tmp_path).write() as connection:
        connection.execute(sa.text("UPDATE version_x SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer version of fleet; update fleet"):
        a_database(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all" * 300)
    with pytest.raises(StoreError, match=r"x\.db: file is not a database; it is damaged"):
        a_database(tmp_path)


def test_a_file_that_another_program_holds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.database.BUSY_TIMEOUT_S", 0.1)
    holder = a_database(tmp_path)
    with holder.write(), pytest.raises(StoreError, match="another program holds it"), a_database(tmp_path).write():
        pass


def test_a_postgresql_that_is_down_is_named_without_its_password() -> None:
    database = Database("postgresql://user:secret@127.0.0.1:1/fleet", schema="fleet_c")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/fleet does not answer") as caught, database.read():
        pass
    assert "secret" not in str(caught.value)


def test_a_schema_is_made_once_by_many_who_start_at_once(postgres_url: str) -> None:
    failures = []

    def start() -> None:
        try:
            with Database(postgres_url, "fleet_many").write() as connection:
                connection.execute(sa.text("SELECT 1"))
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Database(postgres_url, "fleet_many").read() as connection:
        assert connection.execute(sa.text("SELECT current_schema()")).scalar() == "fleet_many"
    assert failures == []
