"""The SDK's processes on the demo's stage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fleet.demo import stage
from fleet.demo.stage import Sdk
from fleet.errors import FleetError
from fleet.model import ServerAccess
from tests.signals import heed_signals
from tests.waiting import PATIENCE, wait_for

ROOT = Path(__file__).parents[2]
ACCESS = ServerAccess(api_url="http://a", files_url="http://f", web_url="http://w", access_key="k", secret_key="s")
FORKS = """\
import os, time
os.fork()
open(f"pid-{os.getpid()}", "w").close()
time.sleep(600)
"""
DEMO = """\
import sys
from pathlib import Path
from fleet.demo.play import _end_by_sigterm_as_by_ctrl_c
from fleet.demo.stage import Sdk
from tests.demo.test_stage import ACCESS
_end_by_sigterm_as_by_ctrl_c()
Sdk(ACCESS, Path(sys.argv[1]))._python("forks.py")
"""


def forked(place: Path) -> list[int]:
    return [int(path.name.removeprefix("pid-")) for path in place.glob("pid-*")]


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_ctrl_c_while_the_sdk_works_ends_what_it_forked_too(tmp_path: Path) -> None:
    """It stayed behind, and tried to reach the demo's server."""
    (tmp_path / "forks.py").write_text(FORKS)
    process = subprocess.Popen(
        [sys.executable, "-c", DEMO, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        preexec_fn=heed_signals,
    )
    pids = wait_for(lambda: found if len(found := forked(tmp_path)) == 2 else None, what="it has forked")
    process.terminate()
    assert process.wait(20 * PATIENCE) == 128 + 15
    wait_for(lambda: all(map(is_gone, pids)), what="both are gone")


def test_an_sdk_that_takes_too_long_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "forks.py").write_text(FORKS)
    monkeypatch.setattr(stage, "SDK_WITHIN_S", 2.0)
    with pytest.raises(
        FleetError, match=r"the ClearML SDK did not end forks\.py within 2 s; is this machine very busy\?"
    ):
        Sdk(ACCESS, tmp_path)._python("forks.py")
    wait_for(lambda: all(map(is_gone, forked(tmp_path))), what="both are gone")


def test_what_the_sdk_says_last_is_the_reason(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("raise SystemExit('no credentials')")
    with pytest.raises(FleetError, match=r"the ClearML SDK failed at wrong\.py: no credentials"):
        Sdk(ACCESS, tmp_path)._python("wrong.py")
    (tmp_path / "right.py").write_text("print('fine')")
    assert Sdk(ACCESS, tmp_path)._python("right.py") == "fine\n"
