"""Engines and migrations, for the two rooms that keep tables: the fleet's store and the embedded server.

SQLite (in WAL mode) and PostgreSQL by one schema. A transaction says beforehand whether it writes: on SQLite a reader that
turns writer half-way can only fail ("database is locked"), so writers take the lock when they begin, one after another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from fleet.errors import StoreError

# A writer in another process may hold the lock as long as this before we call it trouble.
BUSY_TIMEOUT_S = 10.0


class Database:
    """One database: `with database.read() as connection` or `write()`; both are one transaction, rolled back on an error."""

    def __init__(self, url: str) -> None:
        """Open `url` ("sqlite:///path", "sqlite://" in memory, "postgresql+psycopg://..."). No table is touched yet.

        Raises:
            StoreError: the URL cannot be read, or its driver is not installed.
        """
        self._writing = threading.Lock()
        try:
            self.engine = _engine(url)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise StoreError(f"store {url.split('@')[-1]!r} cannot be opened: {error}") from error
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads.

        Raises:
            StoreError: the database does not answer.
        """
        with _as_store_error(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; committed at the end of the block, or not at all.

        Raises:
            StoreError: the database does not answer, or is locked for longer than BUSY_TIMEOUT_S.
        """
        # Threads of one process queue up here, in order, instead of polling SQLite's file lock.
        lock = self._writing if self.is_sqlite else threading.Lock()
        with _as_store_error(), lock, self.engine.connect() as connection:
            connection = connection.execution_options(fleet_writes=True)
            with connection.begin():
                yield connection

    def migrate(self, directory: Path, version_table: str) -> None:
        """Bring the tables to the newest revision under `directory`/versions (alembic scripts). Safe to call at every start."""
        script = ScriptDirectory(str(directory))
        environment = EnvironmentContext(Config(), script, fn=lambda rev, _: script._upgrade_revs("head", rev))
        with self.write() as connection, environment:
            if not self.is_sqlite:  # two processes that start at once must not migrate at once
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:t))"), {"t": version_table})
            environment.configure(connection=connection, version_table=version_table, transactional_ddl=False)
            environment.run_migrations()

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, pool_size=10)
    in_memory = parsed.database in (None, "", ":memory:")
    if not in_memory:
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        parsed,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        **({"poolclass": sa.StaticPool} if in_memory else {"pool_size": 16}),
    )
    sa.event.listen(engine, "connect", _on_sqlite_connect)
    sa.event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _on_sqlite_begin
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # in WAL mode safe against a crash of the process
    connection.execute("PRAGMA foreign_keys=ON")


def _on_sqlite_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("fleet_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _as_store_error() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        cause = str(error).splitlines()[0]
        raise StoreError(f"the store does not answer: {cause}; is the disk full, or the database down?") from error
