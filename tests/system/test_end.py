"""The end of a machine, with a real supervisor process: in which order, by whose hand, and what holds it back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.model import AgentSettings, GpuNeed, KeepAwake, Queue
from fleet.wire import Enrolled
from tests.fake_centre import FakeCentre
from tests.google_cloud import INSTANCE, GoogleCloud
from tests.system.real_clients import ROOT, RunningServer
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("clearml-sdk")]

QUEUES = (Queue(name="train", resources=("lab",), need=GpuNeed(at_least=1, at_most=1)),)
WORKER = "test:lab:m1"


class Watching(FakeCentre):
    """Notes what the ClearML server knows of the machine's worker when the machine says goodbye."""

    def __init__(self, enrolled: Enrolled, server: RunningServer, story: Path) -> None:
        super().__init__(enrolled)
        self._clearml, self._story = server, story

    def heartbeat(self, body: dict, authorization: str | None) -> tuple[int, object]:
        if body["is_ending"] and self.goodbye is None:
            listed = WORKER in [worker["id"] for worker in self._clearml.call("workers.get_all")["workers"]]
            with self._story.open("a") as story:
                story.write(f"goodbye, pulling {body['is_pulling']}, worker listed {listed}\n")
        return super().heartbeat(body, authorization)


class Machine:
    """One supervisor process, which would end a whole machine by a `systemctl` of the test's."""

    def __init__(self, place: Path, server: RunningServer, environment: dict[str, str], **wanted: object) -> None:
        self.place, self.story = place, place / "story"
        enrolled = {
            "instance": "m1",
            "token": "secret",
            "cluster": "test",
            "resource": "lab",
            "server": server.access,
            "queues": QUEUES,
            "agent": AgentSettings(mode="interpreter"),
            "idle_timeout": timedelta(seconds=2),
            "poll_interval": timedelta(seconds=1),
            "heartbeat_interval": timedelta(seconds=1),
            "contact_timeout": timedelta(seconds=300),
            "max_lifetime": None,
        }
        self.centre = Watching(Enrolled(**{**enrolled, **wanted}), server, self.story)  # type: ignore[arg-type]
        self._executable("bin/systemctl", f"echo systemctl $* >> {self.story}")
        self._executable("hooks/shutdown/10-note", f'echo "hook shutdown: $FLEET_REASON" >> {self.story}')
        self._executable("hooks/drain/10-note", f"echo hook drain >> {self.story}")
        self.environment = {
            **os.environ,
            "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "FLEET_CENTRE_URL": self.centre.url,
            "FLEET_INSTANCE": "m1",
            "FLEET_JOIN_TOKEN": "join",
            "FLEET_DIR": str(place / "state"),
            "FLEET_SIM_GPUS": '{"count": 1}',
            "FLEET_HOOKS_DIR": str(place / "hooks"),
            "FLEET_KEEP_ALIVE": str(place / "keep-alive"),
            **environment,
        }

    def start(self) -> Machine:
        command = [sys.executable, "-m", "fleet.supervisor"]
        with (self.place / "log").open("wb") as log:
            self.process = subprocess.Popen(command, env=self.environment, stderr=log)
        wait_for(lambda: self.centre.heartbeats, 30, "the supervisor enrols")
        return self

    def _executable(self, name: str, line: str) -> None:
        file = self.place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{line}\n")
        file.chmod(0o755)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        self.centre.close()
        sys.stdout.write((self.place / "log").read_text())


@pytest.fixture(scope="module")
def queue(clearml_server: RunningServer) -> str:
    return clearml_server.queue("train")


@pytest.fixture
def machine(tmp_path: Path, clearml_server: RunningServer, queue: str) -> Iterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def make(environment: dict[str, str] | None = None, **wanted: object) -> Machine:
        made.append(Machine(tmp_path, clearml_server, environment or {}, **wanted))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_an_idle_machine_stops_pulling_runs_its_hooks_unregisters_says_goodbye_and_powers_off(machine):
    here = machine({"FLEET_POWER": "poweroff"}).start()
    assert here.process.wait(30 * PATIENCE) == 0
    assert here.story.read_text().splitlines() == [
        "hook drain",
        "hook shutdown: no task for 2 s",
        "goodbye, pulling False, worker listed False",
        "systemctl --no-ask-password poweroff",
    ]


def test_a_machine_of_google_cloud_deletes_itself_after_its_goodbye(machine):
    google = GoogleCloud()
    here = machine({"FLEET_POWER": "delete-self", **google.environment}).start()
    assert here.process.wait(30 * PATIENCE) == 0
    google.close()
    assert google.deleted == [INSTANCE]
    assert here.centre.goodbye.reason.code == "idle"
    assert "systemctl" not in here.story.read_text()


def test_a_person_holds_an_idle_machine_by_a_file_and_the_machine_says_so(machine):
    here = machine(keep_awake=KeepAwake(keep_alive=timedelta(hours=1)))
    (here.place / "keep-alive").touch()
    here.start()
    told = wait_for(lambda: [h.reason for h in here.centre.heartbeats if h.reason], 20, "it says what keeps it awake")
    assert told[0].code == "kept_awake"
    assert told[0].text.startswith(f"idle, but kept awake: {here.place / 'keep-alive'} was touched ")
    idle_since = here.centre.heartbeats[-1].idle_since
    wait_for(lambda: here.centre.heartbeats[-1].at - idle_since > timedelta(seconds=4), 20, "twice the idle time")
    assert here.process.poll() is None
    assert here.centre.heartbeats[-1].is_pulling
    (here.place / "keep-alive").unlink()
    assert here.process.wait(30 * PATIENCE) == 0
    assert here.centre.goodbye.reason.code == "idle"


def test_a_machine_whose_startup_hook_hangs_ends_at_its_boot_deadline(machine):
    here = machine(boot_timeout=timedelta(seconds=2), idle_timeout=None)
    here._executable("hooks/startup/10-mount", "exec sleep 3600")
    here.start()
    assert here.process.wait(30 * PATIENCE) == 0
    assert here.centre.goodbye.reason.text == "its startup hooks were not done 2 s after it enrolled"


def test_systemd_hears_the_supervisor_while_its_loop_turns_and_not_while_it_is_stopped(machine, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        alive = tmp_path / "alive"
        here = machine({"NOTIFY_SOCKET": str(tmp_path / "notify"), "FLEET_ALIVE_FILE": str(alive)}, idle_timeout=None)
        here.start()
        assert [systemd.recv(100) for _ in range(2)] == [b"READY=1\nSTATUS=instance m1", b"WATCHDOG=1"]
        assert systemd.recv(100) == b"WATCHDOG=1"  # ten seconds later, of a machine that has nothing to do
        here.process.send_signal(signal.SIGSTOP)
        written = int(alive.read_text())
        systemd.settimeout(12)
        with pytest.raises(TimeoutError):
            systemd.recv(100)
        assert int(alive.read_text()) == written
        assert time.clock_gettime(time.CLOCK_BOOTTIME) - written >= 12


def test_a_machine_that_finds_no_dispatcher_ends_at_its_deadline(machine, monkeypatch):
    here = machine({"FLEET_POWER": "poweroff"})
    here.centre.close()
    hurried = "import fleet.supervisor.start as s; s.ENROLL_WITHIN_S = 1.0; raise SystemExit(s.main())"
    done = subprocess.run(
        [sys.executable, "-c", hurried],
        env=here.environment,
        capture_output=True,
        text=True,
        timeout=30 * PATIENCE,
        check=False,
    )
    here.process = subprocess.Popen(["true"])
    (here.place / "log").write_text(done.stderr)
    assert done.returncode == 0  # success, which its unit turns into a power-off
    assert "no answer" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert here.story.read_text() == "systemctl --no-ask-password poweroff\n"
