"""What all tests share: an environment that each leaves as it found it, and a private PostgreSQL, where there is one."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import a_free_port


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Who runs what, where tests are handed out by groups."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from tests.distribution import FromBothEnds

    return FromBothEnds(config, log)


@pytest.fixture(autouse=True)
def environment_is_left_as_it_was() -> Iterator[None]:
    """A test that leaves a variable behind breaks a distant one, which starts a process."""
    before = dict(os.environ)
    yield
    names = os.environ.keys() | before.keys()
    changed = {n for n in names - {"PYTEST_CURRENT_TEST"} if os.environ.get(n) != before.get(n)}
    for name in changed:
        os.environ.pop(name, None)
    os.environ |= {name: before[name] for name in changed & before.keys()}
    assert not changed, f"this test changed {sorted(changed)} for all that run after it"


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
    port = a_free_port()
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
