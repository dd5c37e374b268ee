"""The three stores under test, and a private PostgreSQL where there is one."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet.database import Database
from fleet.store.base import Store
from fleet.store.memory import MemoryStore
from fleet.store.sql import SqlStore
from fleet.store.tables import METADATA

MakeStore = Callable[..., Store]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of our own on a free loopback port, with the durability that a test does not need turned off."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server here (apt-get install postgresql)")
    programs = found[-1].parent
    as_user: list[str] = []
    home = Path(tempfile.mkdtemp(prefix="fleet-pg-"))
    if os.geteuid() == 0:  # initdb refuses root
        try:
            os.chown(home, pwd.getpwnam("postgres").pw_uid, -1)
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and this machine has no user `postgres`")
        as_user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quick = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {home} {quick}"
    pg_ctl = [*as_user, str(programs / "pg_ctl"), "-w", "-D", f"{home}/data"]
    make = [*as_user, str(found[-1]), "-D", f"{home}/data", "-A", "trust", "-U", "fleet", "--no-sync", "-E", "UTF8"]
    subprocess.run([*make, "--locale", "C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    log = f"{home}/log"
    subprocess.run([*pg_ctl, "-l", log, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    try:
        yield f"postgresql+psycopg://fleet@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*pg_ctl, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        shutil.rmtree(home)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fleet.db"
    url: str = request.getfixturevalue("postgres_url")
    database = Database(url)
    with database.write() as connection:
        METADATA.drop_all(connection)
        connection.execute(sa.text("DROP TABLE IF EXISTS fleet_version"))
    database.close()
    return url


@pytest.fixture
def open_sql(url: str) -> Iterator[MakeStore]:
    """Opens a SqlStore on that database, as a process that starts would; any number of times."""
    opened: list[Database] = []

    def make(**arguments: object) -> Store:
        opened.append(Database(url))
        return SqlStore(opened[-1], **arguments)  # type: ignore[arg-type]

    yield make
    for database in opened:
        database.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """Makes an empty store of each kind."""
    if request.param == "memory":
        yield MemoryStore
        return
    database = Database(f"sqlite:///{tmp_path}/fleet.db" if request.param == "sqlite" else _emptied(request))
    yield lambda **arguments: SqlStore(database, **arguments)
    database.close()


def _emptied(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgres_url")
    database = Database(url)
    SqlStore(database)
    with database.write() as connection:
        names = ", ".join(METADATA.tables)
        connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY"))
    database.close()
    return url


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    return make_store()
