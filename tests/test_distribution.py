"""A group of tests stays on one worker, and one worker begins at the other end: docs/adr/0047-the-whole-run.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[1]
CONFTEST = """\
from tests.conftest import pytest_xdist_make_scheduler
"""
# The first group waits until everything else has run: else it would be a matter of luck who runs which.
TESTS = """\
import os, time
from pathlib import Path
import pytest

def note(name):
    with Path("ran").open("a") as file:
        file.write(f"{name} {os.environ['PYTEST_XDIST_WORKER']}\\n")

def others():
    return [line for line in Path("ran").read_text().splitlines() if not line.startswith("one")] if Path("ran").exists() else []

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("n", range(4))
def test_one(n):
    deadline = time.monotonic() + 60
    while len(others()) < 7 and time.monotonic() < deadline:
        time.sleep(0.05)
    note("one")

@pytest.mark.xdist_group("two")
@pytest.mark.parametrize("n", range(3))
def test_two(n):
    note("two")

@pytest.mark.parametrize("n", range(4))
def test_single(n):
    note(f"single{n}")
"""


@pytest.mark.system
def test_a_group_of_tests_stays_on_one_worker_and_single_tests_run_beside_it(tmp_path: Path) -> None:
    """A pytest whose ids xdist does not know takes every group apart, without a word (pytest-dev/pytest-xdist#1386)."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_them.py").write_text(TESTS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n2", "--dist", "loadgroup", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=120 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    workers = {name: {worker for each, worker in ran if each == name} for name, _ in ran}
    assert (len(ran), len(workers["one"]), len(workers["two"])) == (11, 1, 1)
    assert ran[0][0] == "single3"
