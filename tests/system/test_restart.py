"""A supervisor that is killed and started again, as systemd does it: the same machine goes on, and no task is lost or runs twice."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.model import RunResult
from fleet.queues.base import TaskStatus
from tests.system.edge import QUEUES, Machine
from tests.waiting import PATIENCE, is_alive, wait_for

pytest.importorskip("clearml_agent")
pytestmark = [pytest.mark.system, pytest.mark.xdist_group("restart")]

# What `Restart=on-failure` does: $0 the interpreter, $1 where to leave the pid of each supervisor.
RESTARTING = """
while :; do
  "$0" -m fleet.supervisor & echo $! >> "$1"; wait $!
  [ $? = 0 ] && exit 0
  sleep 0.2
done
"""


class Restarting(Machine):
    """A machine whose supervisor is started again whenever it fails."""

    def started(self, environment, log) -> subprocess.Popen[bytes]:
        self.run = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="fleet-run-"))  # a tmpfs, as /run is
        self.environment = {**environment, "FLEET_RUN_DIR": str(self.run)}
        self.pids_file = self.directory.with_suffix(".pids")
        command = ["/bin/sh", "-c", RESTARTING, sys.executable, str(self.pids_file)]
        return subprocess.Popen(command, env=self.environment, stderr=log)

    @property
    def supervisors(self) -> list[int]:
        """Of all that were started, the living one last."""
        with contextlib.suppress(FileNotFoundError):
            return [int(line) for line in self.pids_file.read_text().split()]
        return []

    def kill_supervisor(self) -> None:
        """kill -9, and wait for the next one."""
        before = self.supervisors
        os.kill(before[-1], signal.SIGKILL)
        wait_for(lambda: len(self.supervisors) > len(before), 10, "the supervisor is started again")

    def pause_restarts(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume_restarts(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        pid = self.supervisors[-1]
        if is_alive(pid):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(AssertionError):
                wait_for(lambda: not is_alive(pid), 20)
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
        self.centre.close()
        shutil.rmtree(self.run, ignore_errors=True)


@pytest.fixture
def machine(server, tmp_path) -> Iterator:
    machines = []

    def make(name: str = "m1", **wanted) -> Restarting:
        machines.append(Restarting(tmp_path / name, server.access, '{"count": 2}', None, **wanted))
        return machines[-1]

    yield make
    for each in machines:
        each.stop()
        sys.stdout.write(each.log.read_text())


def intervals(notes: Path) -> list[tuple[int, int]]:
    """From the first to the last sign of life of each attempt, in nanoseconds, by the notes "ATTEMPT TIME" of a script."""
    seen: dict[str, list[int]] = {}
    for line in notes.read_text().splitlines():
        attempt, at = line.split()
        seen.setdefault(attempt, []).append(int(at))
    return sorted((min(times), max(times)) for times in seen.values())


# Lives until the gate is there, and leaves a sign of life with its own number twenty times a second.
LIVES = "until [ -e {gate} ]; do echo $$ $(date +%s%N) >> {notes}; sleep 0.05; done; echo done\n"


def test_a_task_whose_supervisor_was_killed_runs_again_and_never_twice_at_once(machine, clearml, tmp_path):
    gate, notes = tmp_path / "gate", tmp_path / "notes"
    task = clearml.submit("train", "echo begun; " + LIVES.format(gate=gate, notes=notes))
    here = machine()
    wait_for(lambda: notes.exists() and "begun" in clearml.log(task), 30)
    here.kill_supervisor()
    wait_for(lambda: len(intervals(notes)) == 2, 30, "it runs again")
    gate.touch()
    assert clearml.ended(task) == TaskStatus.COMPLETED
    (_, first_end), (second_start, _) = intervals(notes)
    assert first_end < second_start
    runs = wait_for(lambda: len(here.centre.runs.get(task, [])) == 2 and here.centre.runs[task], 10)
    assert [run.result for run in runs] == [RunResult.REQUEUED, RunResult.COMPLETED]
    assert [run.exit_code for run in runs] == [None, 0]
    assert len(here.centre.enrolls) == 1
    assert "stopped: the supervisor of its machine was killed" in clearml.log(task)
    assert (
        clearml.log(task).count("begun") >= 2
    )  # killed between the server's answer and its note of it, it is told again
    wait_for(lambda: not list((here.directory / "journal").iterdir()), 10, "everything is settled")
    assert oct(next(here.run.glob("*/identity.json")).stat().st_mode)[-3:] == "600"


def test_what_left_the_group_of_a_task_does_not_outlive_its_supervisor_by_more_than_the_next_one_s_start(
    machine, clearml, tmp_path
):
    stray = tmp_path / "stray"
    task = clearml.submit("train", f"[ -e {stray} ] || setsid sh -c 'echo $$ > {stray}; sleep 600' & sleep 600\n")
    here = machine()
    wait_for(lambda: stray.exists() and stray.read_text().strip(), 30)
    pid = int(stray.read_text())
    here.kill_supervisor()
    wait_for(lambda: not is_alive(pid), 10)
    clearml.abort(task)
    assert clearml.ended(task) == TaskStatus.STOPPED


def test_a_result_and_lines_that_the_server_did_not_have_are_told_by_the_next_supervisor(machine, clearml, server):
    task = clearml.submit("train", "for i in $(seq 1 40); do echo line $i; sleep 0.05; done\n")
    here = machine()
    wait_for(lambda: "line 3\n" in clearml.log(task), 30)
    server.kill()
    wait_for(lambda: not here.centre.heartbeats[-1].allocations, 20, "it ends while the server is away")
    here.kill_supervisor()
    server.start()
    assert clearml.ended(task) == TaskStatus.COMPLETED
    lines = [line for line in clearml.log(task).splitlines() if line.startswith("line ")]
    assert lines == [f"line {i}" for i in range(1, 41)]
    (run,) = wait_for(lambda: here.centre.runs.get(task), 10)
    assert (run.result, run.exit_code) == (RunResult.COMPLETED, 0)


def test_a_restart_without_contact_does_not_put_off_the_deadline(machine, clearml, server, tmp_path):
    notes = tmp_path / "notes"
    task = clearml.submit("train", LIVES.format(gate=tmp_path / "gate", notes=notes))
    here = machine(contact_timeout=timedelta(seconds=5))
    wait_for(notes.exists, 30)
    here.centre.is_down = True
    server.kill()
    for _ in range(2):
        here.kill_supervisor()
        wait_for(lambda: not here.agents(), 10)
    assert here.process.wait(30 * PATIENCE) == 0
    server.start()
    assert "code=contact_lost" in here.log.read_text()
    assert len(intervals(notes)) == 1
    assert list(here.run.iterdir()) == []
    clearml.client.put_back(task, "train", "its machine is gone")
    clearml.abort(task)


def test_a_journal_that_cannot_be_read_is_put_aside_in_one_line_and_the_machine_goes_on(machine, clearml, tmp_path):
    gate = tmp_path / "gate"
    stray = tmp_path / "stray"
    bad = clearml.submit("train", f"setsid sh -c 'echo $$ > {stray}; sleep 600' & sleep 600\n")
    here = machine()
    wait_for(lambda: stray.exists() and stray.read_text().strip(), 30)
    here.pause_restarts()
    os.kill(here.supervisors[-1], signal.SIGKILL)
    (entry,) = (here.directory / "journal").glob("*.json")
    entry.write_bytes(entry.read_bytes()[:100])
    here.resume_restarts()
    wait_for(lambda: not is_alive(int(stray.read_text())), 10)
    good = clearml.submit("train", f"touch {gate}\n")
    assert clearml.ended(good) == TaskStatus.COMPLETED
    lines = [line for line in here.log.read_text().splitlines() if "journal not readable" in line]
    assert len(lines) == 1
    assert "Traceback" not in here.log.read_text()
    clearml.abort(bad)


def test_a_second_supervisor_of_the_same_machine_is_refused_in_one_line(machine):
    here = machine()
    command = [sys.executable, "-m", "fleet.supervisor"]
    done = subprocess.run(
        command, env=here.environment, capture_output=True, text=True, timeout=20 * PATIENCE, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"fleet supervise: another supervisor runs here already ({here.directory} is in use); end it first\n"
    )
    assert here.process.poll() is None


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "fleet-small", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_machine_whose_disk_is_full_takes_no_task_says_why_and_ends(server, clearml, small_disk):
    here = Restarting(small_disk / "m", server.access, '{"count": 2}', None)
    try:
        wait_for(lambda: here.centre.heartbeats, 20)
        with contextlib.suppress(OSError), (small_disk / "full").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        task = clearml.submit("train", "echo too much\n")
        assert here.process.wait(30 * PATIENCE) == 0
        assert here.centre.goodbye.reason.code == "journal_failed"
        assert "No space left on device; free the disk, or replace it" in here.centre.goodbye.reason.text
        assert clearml.status(task) == TaskStatus.QUEUED
        assert task in {t.id for t in clearml.client.waiting(QUEUES)}
    finally:
        here.stop()
    clearml.abort(task)
