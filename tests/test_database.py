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
