"""Engines and migrations, for the two rooms that keep tables: the fleet's store and the embedded server.

SQLite (in WAL mode) and PostgreSQL by one schema. A transaction says beforehand whether it writes: on SQLite a reader that
turns writer half-way can only fail ("database is locked"), so writers take the lock when they begin, one after another.
"""

from __future__ import annotations

import functools
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from fleet.errors import StoreError

# A writer in another process may hold the lock as long as this before we call it trouble.
BUSY_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 10


class Database:
    """One database: `with database.read() as connection` or `write()`; both are one transaction, rolled back on an error."""

    def __init__(self, url: str, schema: str | None = None) -> None:
        """Open `url` ("sqlite:///path", "sqlite://" in memory, "postgresql://..."). No table is touched yet.

        `schema`: on PostgreSQL all tables are kept in this schema, made when it is missing, so that several fleets can
        share one database and nothing else. SQLite has a file for each fleet anyway.

        Raises:
            StoreError: the URL cannot be read, or its driver is not installed.
        """
        self._writing = threading.Lock()
        self._name = url.split("@")[-1].removeprefix("sqlite:///")  # without a password
        try:
            self.engine = _engine(url, schema)
        except sa.exc.ArgumentError as error:
            raise StoreError(f"store {self._name!r} cannot be opened: {error}") from error
        except ImportError as error:
            hint = "; install it with: pip install 'fleet[postgres]'" if error.name == "psycopg" else ""
            raise StoreError(f"store {self._name!r} cannot be opened: it needs {error.name}{hint}") from error
        except OSError as error:
            raise StoreError(f"store {self._name!r} cannot be opened: {error.strerror}") from error
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads.

        Raises:
            StoreError: the database does not answer.
        """
        with self._as_store_error(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; committed at the end of the block, or not at all.

        Raises:
            StoreError: the database does not answer, or is locked for longer than BUSY_TIMEOUT_S.
        """
        # Threads of one process queue up here, in order, instead of polling SQLite's file lock.
        lock = self._writing if self.is_sqlite else threading.Lock()
        with self._as_store_error(), lock, self.engine.connect() as connection:
            connection = connection.execution_options(fleet_writes=True)
            with connection.begin():
                yield connection

    def migrate(self, directory: Path, version_table: str) -> None:
        """Bring the tables to the newest revision under `directory`/versions (alembic scripts). Safe to call at every start.

        Raises:
            StoreError: the database does not answer, or a newer fleet has written it.
        """
        script = ScriptDirectory(str(directory))
        environment = EnvironmentContext(Config(), script, fn=lambda rev, _: script._upgrade_revs("head", rev))
        with self.write() as connection, environment:
            if not self.is_sqlite:  # two processes that start at once must not migrate at once
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:t))"), {"t": version_table})
            environment.configure(connection=connection, version_table=version_table, transactional_ddl=False)
            try:
                environment.run_migrations()
            except CommandError as error:
                raise StoreError(
                    f"store {self._name} was written by a newer version of fleet; update fleet ({error})"
                ) from error

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()

    @contextmanager
    def _as_store_error(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, sqlite3.Error) as error:
            cause = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error).splitlines()[0]
            for words, hint in HINTS.items():
                if words in cause:
                    raise StoreError(f"store {self._name}: {cause}; {hint}") from error
            if isinstance(error, sa.exc.ProgrammingError | sa.exc.IntegrityError | sa.exc.DataError):
                raise  # a mistake of ours
            raise StoreError(f"store {self._name} does not answer: {cause}; is the database down?") from error


# What a database says, and what its owner can do.
HINTS = {
    "disk is full": "free some space",
    "disk I/O error": "free some space, or look at the disk's health",
    "is locked": "another program holds it; end that program",
    "not a database": "it is damaged: put a backup in its place, or move it away to start anew",
    "malformed": "it is damaged: put a backup in its place, or move it away to start anew",
    "unable to open": "make its directory, or let this user write there",
    "readonly database": "let this user write it",
    "permission denied": "let this user create schemas and tables there",
}


def _engine(url: str, schema: str | None) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")  # the driver that `fleet[postgres]` installs
        connect = {"connect_timeout": CONNECT_TIMEOUT_S} | ({"options": f"-csearch_path={schema}"} if schema else {})
        engine = sa.create_engine(parsed, pool_pre_ping=True, pool_size=10, connect_args=connect)
        if schema:
            # Before SQLAlchemy's own look at a new connection, which asks for the current schema.
            sa.event.listen(engine, "connect", functools.partial(_make_schema, schema), insert=True)
        return engine
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


def _make_schema(schema: str, connection: Any, _record: Any) -> None:
    known = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (schema,)).fetchone()[0]
    if not known:
        # Two processes that start at once would both find it missing, and one would fail.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (schema,))
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    connection.commit()


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _on_sqlite_begin
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")  # in WAL mode safe against a crash of the process
    connection.execute("PRAGMA foreign_keys=ON")


def _on_sqlite_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("fleet_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
