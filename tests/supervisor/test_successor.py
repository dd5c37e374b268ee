"""The shell that waits for a successor is there while there is something to take over, and no longer."""

import contextlib
import subprocess
from datetime import timedelta
from pathlib import Path

import psutil

from fleet.supervisor.successor import Successor
from tests.waiting import is_alive


def shells(place: Path) -> list[psutil.Process]:
    """Of ours that wait with a word in this directory."""
    alive = [p for p in psutil.Process().children() if is_alive(p.pid)]
    return [p for p in alive if any(str(place) in word for word in words(p))]


def words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):  # one of another test, which ends just now
        return process.cmdline()
    return []


def test_without_a_container_nobody_waits_and_no_word_is_left(tmp_path: Path) -> None:
    waits = Successor(tmp_path, within=timedelta(seconds=60))
    waits.open()
    assert shells(tmp_path) == []
    waits.add(1, "one")
    waits.add(2, "two")
    waits.remove(1, "one")
    assert len(shells(tmp_path)) == 1
    waits.remove(2, "two")
    assert shells(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_it_waits_again_for_the_next_container_and_ends_with_its_supervisor(tmp_path: Path) -> None:
    waits = Successor(tmp_path, within=timedelta(seconds=60))
    waits.open()
    task = subprocess.Popen(["sleep", "60"])
    try:
        for _ in range(2):
            waits.add(task.pid, "its container")
            assert len(shells(tmp_path)) == 1
            waits.remove(task.pid, "its container")
        assert shells(tmp_path) == []
        waits.add(task.pid, "its container")
        waits.close()
        assert shells(tmp_path) == []
        assert task.poll() is None  # what is taken back is not killed
    finally:
        task.kill()
        task.wait()
