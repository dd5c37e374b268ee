"""Signs of life: what systemd hears on its socket, and what the timer reads from the stamp."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_hooks import signs
from agent_hooks.signs import Signs, signs_of


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The receiving end of NOTIFY_SOCKET, as sd_notify(3) says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def heard(systemd: socket.socket) -> list[str]:
    systemd.setblocking(False)
    found = []
    while True:
        try:
            found.append(systemd.recv(4096).decode())
        except BlockingIOError:
            return found


def test_systemd_hears_that_it_is_ready_then_that_it_lives_then_that_it_ends(systemd, tmp_path):
    given = Signs(str(tmp_path / "notify"), tmp_path / "alive")
    given.ready("instance i1")
    given.alive()  # too soon after the first
    given.ending("idle")
    assert heard(systemd) == ["READY=1\nSTATUS=instance i1", "WATCHDOG=1", "STOPPING=1\nSTATUS=idle"]


def test_the_stamp_holds_the_seconds_since_boot_and_is_written_again_when_the_time_has_come(monkeypatch, tmp_path):
    stamp = tmp_path / "alive"
    given = Signs(stamp=stamp)
    given.alive()
    assert abs(int(stamp.read_text()) - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    stamp.unlink()
    given.alive()
    assert not stamp.exists()
    monkeypatch.setattr(signs, "SIGN_EVERY_S", 0.0)
    given.alive()
    assert stamp.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["alive"]


def test_an_address_without_a_file_is_understood(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0fleet-test-{tmp_path.name}")
        Signs(f"@fleet-test-{tmp_path.name}").alive()
        assert heard(sock) == ["WATCHDOG=1"]


def test_nobody_who_watches_and_nobody_who_listens_is_no_failure(tmp_path):
    for given in (Signs(), Signs(str(tmp_path / "nobody"), tmp_path / "no" / "directory")):
        given.ready()
        given.alive()
        given.ending()


def test_no_process_of_a_task_inherits_the_way_to_speak_for_us(tmp_path, systemd):
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "120000000",
        "WATCHDOG_PID": "1",
        "FLEET_ALIVE_FILE": str(tmp_path / "alive"),
        "HOME": "/",
    }
    signs_of(environ).alive()
    assert environ == {"HOME": "/"}
    assert heard(systemd) == ["WATCHDOG=1"]
    assert (tmp_path / "alive").exists()
