"""Who a machine is, and since when, survives a restart of its supervisor and nothing more."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.model import AgentSettings, GpuNeed, Queue, ServerAccess
from fleet.supervisor import identity as identity_module
from fleet.supervisor.clock import Clock
from fleet.supervisor.contact import Contact
from fleet.supervisor.identity import Identity, Times
from fleet.supervisor.memory import Memory, Remembered, open_memory
from fleet.wire import Enrolled

ENROLLED = Enrolled(
    instance="i1",
    token="edge-secret",
    cluster="lab",
    resource="gpu",
    server=ServerAccess(api_url="http://a", files_url="http://f", web_url="http://w", access_key="A", secret_key="S"),
    queues=(Queue(name="train", resources=("gpu",), need=GpuNeed(at_least=1, at_most=1)),),
    agent=AgentSettings(environment={"A": "b"}),
    idle_timeout=timedelta(minutes=5),
    poll_interval=timedelta(seconds=2),
    heartbeat_interval=timedelta(seconds=10),
    contact_timeout=timedelta(seconds=120),
    max_lifetime=None,
)
TIMES = Times(enrolled_s=1.0, server_s=50.0, centre_s=40.0, idle_s=None, has_started_up=True)


@pytest.fixture
def private() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="fleet-test-"))
    yield place
    shutil.rmtree(place)


def test_it_is_read_back_by_the_next_supervisor_and_readable_by_its_owner_alone(private):
    Identity(private).keep_enrolled(ENROLLED)
    Identity(private).keep_times(TIMES)
    again = Identity(private)
    assert (again.enrolled(), again.times()) == (ENROLLED, TIMES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in private.iterdir()} == {0o600}
    again.forget()
    assert (again.enrolled(), again.times(), list(private.iterdir())) == (None, None, [])


def test_it_does_not_survive_a_reboot(private, tmp_path, monkeypatch):
    Identity(private).keep_enrolled(ENROLLED)
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr(identity_module, "BOOT_ID", tmp_path / "boot_id")
    assert Identity(private).enrolled() is None


def test_nothing_is_kept_on_a_disk(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(identity_module, "is_in_memory", lambda path: False)
    here = Identity(tmp_path)
    here.keep_enrolled(ENROLLED)
    assert (here.enrolled(), list(tmp_path.iterdir())) == (None, [])
    assert "the dispatcher will refuse this machine" in caplog.text


@pytest.mark.parametrize("spoil", ["mode", "link", "half", "owner"])
def test_a_file_that_others_could_have_written_is_not_believed(private, spoil: str):
    Identity(private).keep_enrolled(ENROLLED)
    path = private / "identity.json"
    if spoil == "mode":
        path.chmod(0o660)
    elif spoil == "link":
        path.rename(private / "other")
        path.symlink_to(private / "other")
    elif spoil == "half":
        path.write_bytes(path.read_bytes()[:50])
    elif os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    else:
        pytest.skip("only root may give a file away")
    assert Identity(private).enrolled() is None


def test_times_are_told_to_the_next_clock_in_seconds_since_boot():
    before, after = Clock(), Clock()
    after._anchor += timedelta(hours=-3)  # the machine's clock was set right in between
    at = before.now()
    told = before.since_boot_s(at)
    assert abs(told - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1
    assert abs(after.now() - after.at(told) - (before.now() - at)) < timedelta(milliseconds=50)


def test_a_supervisor_counts_its_deadlines_on_from_where_the_one_before_was(private, tmp_path):
    clock = Clock()
    now = clock.now()
    enrolled, server, centre = (now - timedelta(seconds=s) for s in (100, 30, 20))
    contact = Contact(server, centre)
    memory = open_memory(tmp_path, Identity(private))
    memory.remember(clock, enrolled, contact, now - timedelta(seconds=10), has_started_up=True)
    known = Remembered.of(open_memory(tmp_path, Identity(private)).times, clock)
    ages = [round((now - at).total_seconds(), 3) for at in (known.enrolled_at, known.server_at, known.centre_at)]
    assert ages == [100, 30, 20]
    assert known.idle_since is not None
    assert (round((now - known.idle_since).total_seconds(), 3), known.has_started_up) == (10, True)


def test_contact_is_noted_seldom_and_never_too_late_a_time(private, tmp_path):
    clock = Clock()
    now = clock.now()
    memory: Memory = open_memory(tmp_path, Identity(private))
    contact = Contact(now, now)
    memory.remember(clock, now, contact, None, has_started_up=True)
    first = (private / "times.json").stat().st_mtime_ns
    contact.server_answered(now + timedelta(seconds=4))
    memory.remember(clock, now, contact, None, has_started_up=True)
    assert (private / "times.json").stat().st_mtime_ns == first
    contact.server_answered(now + timedelta(seconds=6))
    memory.remember(clock, now, contact, None, has_started_up=True)
    assert (private / "times.json").stat().st_mtime_ns > first
