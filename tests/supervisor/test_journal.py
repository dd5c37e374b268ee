"""What a supervisor notes of what it holds, and what the next one makes of it."""

import json
import os
import stat
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.dispatcher.sweep import LOST_AFTER
from fleet.model import Gpu, GpuNeed, Reason, RunResult, Task
from fleet.queues.base import TaskState, TaskStatus
from fleet.server.settings import ServerSettings
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.journal import Entry, Journal, born
from fleet.supervisor.ownership import CLAIM_HOLDS_FOR, is_still_ours
from fleet.supervisor.restored import lost
from fleet.supervisor.spool import Spool
from fleet.supervisor.stops import MAX_STARTS

T0 = datetime(2026, 1, 1, tzinfo=UTC)
TASK = Task(
    id="t1",
    queue="train",
    position=0,
    enqueued_at=T0,
    need=GpuNeed(at_least=0.5, at_most=0.5),
    name="mnist\ud800",
    notes=("gpus:x is no number",),
)
STOP = StopTask(task="t1", reason=Reason(code="user_stopped", text="its user asked"), then=RunResult.STOPPED)


def an_entry(key: str = "a1", **more) -> Entry:
    gpus = (Gpu(index=0, uuid="GPU-0", model="A10", memory_gib=24),)
    return Entry(key=key, instance="i1", task=TASK, gpus=gpus, worker="lab:r:i1:gpu0.1", claimed_at=T0, **more)


def test_entries_are_read_back_as_they_were_oldest_first(tmp_path):
    journal = Journal(tmp_path / "journal")
    entries = [
        an_entry("a2", is_ours=True, deaths=2, pid=7, born=99, started_at=T0, announced_at=T0),
        an_entry("a10", is_ours=True, stop=STOP, ended_at=T0, exit_code=-15, result=RunResult.STOPPED),
    ]
    for entry in reversed(entries):
        assert journal.keep(entry, is_first=entry.key == "a2")
    assert list(Journal(tmp_path / "journal").read()) == entries
    assert entries[1].run.result is RunResult.STOPPED
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "journal").iterdir()}
    assert modes == {0o600}
    journal.forget("a2")
    assert [entry.key for entry in journal.read()] == ["a10"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 1}', b"\xff\xfe"])
def test_an_entry_that_cannot_be_read_is_put_aside_and_the_others_are_read(tmp_path, caplog, content: bytes):
    journal = Journal(tmp_path)
    journal.keep(an_entry("a2"))
    (tmp_path / "a1.json").write_bytes(content)
    (tmp_path / "a3.part").write_bytes(b"{")  # the write under which we were killed
    assert [entry.key for entry in journal.read()] == ["a2"]
    assert [record.message for record in caplog.records] == ["journal not readable"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a1.unreadable", "a2.json"]


def test_a_disk_that_takes_no_more_is_told_and_the_state_before_stays(tmp_path):
    journal = Journal(tmp_path)
    assert journal.keep(an_entry())
    (tmp_path / "a1.part").mkdir()  # nobody can write there, not even root
    assert not journal.keep(an_entry(is_ours=True))
    assert journal.fault == f"{tmp_path}/a1.json cannot be written: Is a directory; free the disk, or replace it"
    (tmp_path / "a1.part").rmdir()
    assert journal.read() == (an_entry(),)


def test_a_process_is_known_by_its_number_and_when_it_was_born():
    assert born(os.getpid()) == born(os.getpid()) is not None
    assert born(2**22 + 1) is None


def test_a_task_goes_back_when_its_supervisor_died_until_that_happened_too_often():
    results = [lost(an_entry(deaths=deaths)).then for deaths in range(MAX_STARTS)]
    assert results == [RunResult.REQUEUED, RunResult.REQUEUED, RunResult.FAILED]
    assert lost(an_entry(deaths=MAX_STARTS)).then is RunResult.FAILED


# --- whether it is ours still


def seen(status: TaskStatus, message: str = "", worker: str | None = None) -> TaskState:
    return TaskState(
        id="t1", name="", status=status, status_message=message, queue_id="q", last_worker=worker, last_update=T0
    )


OURS, OTHER = "lab:r:i1:gpu0", "lab:r:i2:gpu0"


@pytest.mark.parametrize(
    ("state", "is_announced", "later", "is_ours"),
    [
        (None, True, timedelta(0), False),
        (seen(TaskStatus.IN_PROGRESS, f"pulled by {OURS}", OTHER), True, timedelta(hours=1), True),
        (seen(TaskStatus.IN_PROGRESS, f"pulled by {OTHER}", OURS), True, timedelta(0), False),
        (seen(TaskStatus.IN_PROGRESS, "stopping", OURS), True, timedelta(0), True),
        (seen(TaskStatus.IN_PROGRESS, "stopping", OTHER), True, timedelta(0), False),
        (seen(TaskStatus.COMPLETED, "", None), True, timedelta(0), True),
        (seen(TaskStatus.QUEUED), True, timedelta(0), False),  # somebody put it back already
        (seen(TaskStatus.QUEUED), False, timedelta(seconds=1), True),  # claimed, and in no queue
        (seen(TaskStatus.QUEUED), False, CLAIM_HOLDS_FOR, False),  # the dispatcher may have given it away
    ],
)
def test_a_task_that_was_given_away_meanwhile_is_not_spoken_for(state, is_announced, later, is_ours):
    assert is_still_ours(state, OURS, T0, is_announced, T0 + later) is is_ours


def test_a_claim_is_ours_for_less_long_than_others_wait_before_they_give_it_away():
    lease = next(field.default for field in fields(ServerSettings) if field.name == "lease")
    assert min(LOST_AFTER, lease) > CLAIM_HOLDS_FOR


# --- the console


def texts(spool: Spool) -> list[str]:
    found = []
    while lines := spool.peek(60):
        found += [line.text for line in lines]
        spool.confirm()
    return found


def test_a_spool_that_is_opened_again_goes_on_where_the_server_was(tmp_path, monkeypatch):
    monkeypatch.setattr("fleet.supervisor.spool.SEGMENT_BYTES", 100)
    first = Spool(tmp_path / "spool")
    for n in range(20):
        first.append(T0 + timedelta(seconds=n), f"line {n}\n")
    sent = [line.text for line in first.peek(100)]
    first.confirm()
    first.peek(100)  # shown, and not confirmed: it is shown again
    second = Spool(tmp_path / "spool")
    assert second.last_at == T0 + timedelta(seconds=19)
    second.append(T0, "late\n")  # a clock that was set back
    assert sent + texts(second) == [f"line {n}\n" for n in range(20)] + ["late\n"]
    assert texts(Spool(tmp_path / "spool")) == []


def test_half_a_piece_is_cut_off_when_a_spool_is_opened_again(tmp_path):
    Spool(tmp_path / "spool").append(T0, "whole\n")
    segment = tmp_path / "spool" / "000000"
    segment.write_bytes(segment.read_bytes() * 2 + segment.read_bytes()[:-2])
    again = Spool(tmp_path / "spool")
    again.append(T0, "new\n")
    assert texts(again) == ["whole\n", "whole\n", "new\n"]


def test_a_reader_that_had_caught_up_when_a_segment_was_full_finds_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr("fleet.supervisor.spool.SEGMENT_BYTES", 10)
    spool = Spool(tmp_path / "spool")
    spool.append(T0, "fills the segment\n")
    assert texts(spool) == ["fills the segment\n"]
    spool.append(T0, "next\n")
    assert texts(spool) == ["next\n"]
    assert [path.name for path in sorted((tmp_path / "spool").iterdir())] == ["000001", "sent"]


def test_no_secret_of_the_server_is_in_the_journal(tmp_path: Path):
    Journal(tmp_path).keep(replace(an_entry(), is_ours=True))
    assert set(json.loads((tmp_path / "a1.json").read_text())) == set(Entry.__slots__)
