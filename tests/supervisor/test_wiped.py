"""Nothing of a task stays on the machine, whatever it did to its directories."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.supervisor.wiped import wipe

NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that a user without rights can reach and owns."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(place, NOBODY, NOBODY)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def without_rights(what: str, place: Path) -> None:
    """Do it in a process that is not root: root deletes everything."""
    child = os.fork()
    if child == 0:
        done = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            {"fill": fill, "wipe": wipe}[what](place / "a1")
            done = 0
        finally:
            os._exit(done)
    assert os.waitpid(child, 0)[1] == 0


def fill(directory: Path) -> None:
    """As a task with a cache of Go modules, and worse."""
    (directory / "tmp" / "go" / "mod").mkdir(parents=True)
    (directory / "tmp" / "go" / "mod" / "code.go").touch(0o444)
    (directory / "link").symlink_to(directory.parent / "of somebody else")
    (directory / "closed" / "inner").mkdir(parents=True)
    (directory.parent / "of somebody else").mkdir(0o500)
    for closed in ("tmp/go/mod", "tmp/go", "tmp"):
        (directory / closed).chmod(0o555)
    (directory / "closed").chmod(0)
    directory.chmod(0o555)


def test_directories_that_a_task_closed_are_deleted_and_what_it_linked_to_is_left_alone(place: Path) -> None:
    without_rights("fill", place)
    shown = sorted(path.name for path in place.iterdir())
    assert shown == ["a1", "of somebody else"]
    without_rights("wipe", place)
    assert [path.name for path in place.iterdir()] == ["of somebody else"]
    assert (place / "of somebody else").stat().st_mode & 0o777 == 0o500


def test_what_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    wipe(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
