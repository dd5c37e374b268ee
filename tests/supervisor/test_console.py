"""From the bytes that an agent prints to the lines that the server gets."""

import errno
import os
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import pytest

from fleet.supervisor import spool as spool_module
from fleet.supervisor.console import Console
from fleet.supervisor.lines import LONGEST, Lines
from fleet.supervisor.runner import Process
from fleet.supervisor.spool import Spool
from tests.waiting import PATIENCE, wait_for

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def fed(*chunks: bytes) -> list[str]:
    lines = Lines()
    return [piece for chunk in chunks for piece in lines.feed(chunk)] + lines.finish()


def test_lines_come_out_whole_however_they_came_in():
    assert fed(b"on", b"e\ntw", b"o\n") == ["one\n", "two\n"]


def test_what_came_in_one_breath_stays_together():
    assert fed(b"one\ntwo\n\nthree\n") == ["one\ntwo\n\nthree\n"]


def test_a_last_line_without_a_newline_is_kept():
    assert fed(b"one\ntwo") == ["one\n", "two\n"]


def test_a_character_may_come_in_two_reads():
    whole = "größe\n".encode()
    assert fed(whole[:3], whole[3:]) == ["größe\n"]


def test_bytes_that_are_no_text_are_replaced_not_lost():
    assert fed(b"a\xff\xfeb\n") == ["a\ufffd\ufffdb\n"]
    assert fed(b"cut \xe2\x82") == ["cut \ufffd\n"]


def test_of_a_progress_bar_the_last_state_is_kept():
    assert fed(b"\r 10%", b"\r 50%", b"\r100%\ndone\n") == ["100%\ndone\n"]
    assert fed(b"10%\r50%\r") == ["50%\n"]


def test_windows_line_ends_are_line_ends():
    assert "".join(fed(b"one\r", b"\ntwo\r\n")) == "one\ntwo\n"


def test_backspaces_and_nuls_are_dropped():
    assert fed(b"a\x08\x00b\n") == ["ab\n"]


def test_a_progress_bar_is_shown_while_it_runs_and_takes_no_memory():
    lines = Lines()
    for percent in range(10_000):
        assert lines.feed(f"\r{percent}".encode()) == []
    assert lines.pending() == "9999\n"
    assert lines.pending() is None
    assert lines.feed(b"\n") == []  # it was shown
    assert lines.feed(b"next\n") == ["next\n"]


def test_a_very_long_line_goes_on_in_the_next_piece():
    pieces = fed(b"x" * (2 * LONGEST + 1) + b"\n")
    assert [len(piece) for piece in pieces] == [LONGEST, LONGEST, 2]
    assert "".join(pieces) == "x" * (2 * LONGEST + 1) + "\n"


# --- the spool


def drained(spool: Spool, limit: int = 100) -> list[str]:
    texts = []
    while lines := spool.peek(limit):
        texts += [line.text for line in lines]
        spool.confirm()
    return texts


def test_the_spool_gives_what_was_put_in_until_it_is_confirmed(tmp_path):
    spool = Spool(tmp_path / "spool")
    spool.append(T0, "one\n")
    spool.append(T0, "two\n")
    assert [line.text for line in spool.peek(1000)] == ["one\n", "two\n"]
    assert [line.text for line in spool.peek(1000)] == ["one\n", "two\n"]
    spool.confirm()
    assert spool.peek(1000) == ()
    spool.append(T0, "three\n")
    assert drained(spool) == ["three\n"]
    spool.remove()
    assert not (tmp_path / "spool").exists()


def test_times_grow_by_a_millisecond_at_least(tmp_path):
    spool = Spool(tmp_path / "spool")
    for at in (T0, T0, T0 - timedelta(hours=1), T0 + timedelta(seconds=1)):
        spool.append(at, "x\n")
    times = [(line.at - T0) / timedelta(milliseconds=1) for line in spool.peek(1000)]
    assert times == [0, 1, 2, 1000]


def test_segments_that_the_server_has_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 64)
    spool = Spool(tmp_path / "spool")
    texts = [f"{i} größer als man denkt\n" for i in range(100)]
    for text in texts:
        spool.append(T0, text)
    assert len(list((tmp_path / "spool").iterdir())) > 20
    assert drained(spool, limit=7) == texts
    assert len(list((tmp_path / "spool").iterdir())) <= 2


def test_a_full_disk_loses_pieces_says_so_and_goes_on(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "spool")
    spool.append(T0, "before\n")
    write = os.pwrite
    is_full = True

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    spool.append(T0, "lost\n")
    spool.append(T0, "lost too\n")
    is_full = False
    spool.append(T0, "after\n")
    note = "### fleet: 14 bytes of output are missing here: the disk was full ###\n"
    assert drained(spool) == ["before\n", note + "after\n"]


# --- the reading thread


@pytest.fixture
def console():
    told: list[tuple[str, str]] = []
    console = Console(
        on_text=lambda key: None,
        on_exit=lambda key: told.append(("exit", key)),
        on_end=lambda key: told.append(("end", key)),
    )
    is_over = threading.Event()

    def loop() -> None:
        while not is_over.is_set():
            console.step()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    yield console, told
    is_over.set()
    console.cut("nobody")  # wakes it
    thread.join(5 * PATIENCE)


def run(console: Console, key: str, script: str, spool: Spool) -> subprocess.Popen:
    read_end, write_end = os.pipe()
    process = subprocess.Popen(["/bin/sh", "-c", script], stdout=write_end, stderr=write_end)
    os.close(write_end)
    console.add(key, Process(mark=key, process=process, output=read_end), spool)
    return process


def test_consoles_of_many_processes_are_read_by_one_thread(console, tmp_path):
    console, told = console
    spools = {key: Spool(tmp_path / key) for key in "abc"}
    processes = [run(console, key, f"seq 1 5000; echo {key} >&2", spool) for key, spool in spools.items()]
    wait_for(lambda: len(told) == 6, 10)
    for key, spool in spools.items():
        expected = "".join(f"{i}\n" for i in range(1, 5001)) + f"{key}\n"
        assert "".join(drained(spool, 100_000)) == expected
    assert {process.wait() for process in processes} == {0}


def test_an_agent_whose_console_a_stranger_keeps_open_can_be_cut(console, tmp_path):
    console, told = console
    spool = Spool(tmp_path / "spool")
    process = run(console, "a", "echo before; setsid sleep 60 & echo $!", spool)
    wait_for(lambda: ("exit", "a") in told, 5)
    process.wait()
    assert told == [("exit", "a")]
    console.cut("a")
    wait_for(lambda: ("end", "a") in told, 5)
    before, stranger = "".join(drained(spool)).split()
    os.kill(int(stranger), 9)
    assert before == "before"


def test_a_stranger_who_goes_on_writing_does_not_hold_the_reader(console, tmp_path):
    console, told = console
    process = run(console, "a", "setsid yes & echo $!", Spool(tmp_path / "spool"))
    wait_for(lambda: ("exit", "a") in told, 5)
    process.wait()
    console.cut("a")
    wait_for(lambda: ("end", "a") in told, 5)  # and the stranger ends with its pipe
    other = run(console, "b", "echo other", Spool(tmp_path / "other"))
    wait_for(lambda: ("end", "b") in told, 5)
    other.wait()


def test_an_agent_that_closes_its_console_is_still_seen_to_end(console, tmp_path):
    console, told = console
    process = run(console, "a", "echo last; exec >&- 2>&-; sleep 0.3", Spool(tmp_path / "spool"))
    wait_for(lambda: len(told) == 2, 5)
    assert told == [("end", "a"), ("exit", "a")]
    process.wait()
