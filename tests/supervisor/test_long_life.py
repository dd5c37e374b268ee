"""A supervisor lives for months: what it holds must not follow from how many tasks there were."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.holding import grown, held
from tests.supervisor.long_life import LAST, MANY, WARM
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
# Threads of hooks that are over are let go of once a minute, and what the last tasks left may still be under way.
BORNE = 12


@pytest.fixture
def agent(tmp_path: Path) -> str:
    """An interpreter that has clearml-agent, and ends at once whatever it is told to run."""
    package = tmp_path / "agent" / "lib" / "python3.11" / "site-packages" / "clearml_agent"
    package.mkdir(parents=True)
    (package / "version.py").write_text("__version__ = '3.0.3'\n")
    python = tmp_path / "agent" / "bin" / "python"
    python.parent.mkdir()
    shutil.copy(shutil.which("true") or "/bin/true", python)
    return str(python)


@pytest.mark.system
def test_a_supervisor_holds_no_more_after_hundreds_of_tasks_than_after_some(tmp_path: Path, agent: str) -> None:
    """Also when its dispatcher and its server are away, its tokens are renewed, and notices come and go."""
    directory = tmp_path / "machine"
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.supervisor.long_life", str(directory)],
        env={**os.environ, "FLEET_AGENT_PYTHON": agent, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300 * PATIENCE,
        check=False,
    )
    assert done.stdout, done.stderr[-2000:]
    said, end = map(json.loads, done.stdout.splitlines())
    assert said["after"]["fleet.supervisor.work.Work.jobs"] == 0, "it was looked into"
    assert grown(said["before"], said["after"], by=BORNE) == {}
    assert end == {"tasks": WARM + MANY + LAST, "told": WARM + MANY + LAST}, "in parts, the last with its goodbye"


def test_what_grows_is_seen() -> None:
    class Growing:
        def __init__(self) -> None:
            self.entries: list[int] = []

    growing = Growing()
    before = held(__name__)
    growing.entries += range(20)
    assert list(grown(before, held(__name__), by=BORNE).values()) == [(0, 20)]
    assert grown(before, held(__name__), by=20) == {}
