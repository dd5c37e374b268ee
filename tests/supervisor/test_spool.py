"""A console on disk when the machine is short of something."""

import errno
import os
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.supervisor import spool as spool_module
from fleet.supervisor.spool import Spool


def test_the_next_segment_that_cannot_be_opened_now_is_opened_later_and_no_line_is_lost_or_read_twice(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 1)
    spool = Spool(tmp_path / "spool")
    for number in range(5):
        spool.append(datetime.now(UTC), f"{number}\n")
    opened, failures = spool._open, []

    def open_every_other_time(segment: int, flags: int) -> int:
        if len(failures) < 3 and (not failures or failures[-1] != segment):
            failures.append(segment)
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(segment, flags)

    monkeypatch.setattr(spool, "_open", open_every_other_time)
    read = []
    for _ in range(20):
        try:
            lines = spool.peek(1000)
        except OSError:
            continue
        read += [line.text for line in lines]
        if lines:
            try:
                spool.confirm()
            except OSError:
                continue
    assert read == [f"{number}\n" for number in range(5)]
    assert len(failures) == 3
    spool.remove()


class _Behind:
    """A lock that somebody else gets first."""

    def __init__(self, lock: AbstractContextManager[bool], first: Callable[[], None]) -> None:
        self._lock, self._first = lock, first

    def __enter__(self) -> None:
        first, self._first = self._first, lambda: None
        first()
        self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(None, None, None)


def test_what_is_said_of_a_task_while_it_prints_has_a_place_of_its_own_among_its_lines(tmp_path, monkeypatch):
    """The server orders by milliseconds alone: two lines of the same one, or in the wrong order, were shown in another."""
    spool, at = Spool(tmp_path / "spool"), datetime(2026, 11, 22, tzinfo=UTC)
    monkeypatch.setattr(spool, "_lock", _Behind(spool._lock, lambda: spool.append(at, "first\n")))
    spool.append(at, "second\n")
    lines = spool.peek(1000)
    assert [line.text for line in lines] == ["first\n", "second\n"]
    assert lines[0].at < lines[1].at
    spool.remove()


def test_a_spool_that_cannot_be_opened_leaves_no_descriptor_and_no_directory(tmp_path: Path) -> None:
    """A machine without a descriptor left tries again and again."""
    before, limits = open_files(), resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(64)]
    os.close(fillers.pop())
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 2, limits[1]))  # room for one more, and it takes two
    try:
        for times in range(3):
            with pytest.raises(OSError, match="Too many open files"):
                Spool(tmp_path / f"a{times}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)
    assert (open_files(), list(tmp_path.iterdir())) == (before, [])


def open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))
