"""The edge for a test: a supervisor process with a small dispatcher, the embedded server, and somebody who submits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import IO

import psutil

from fleet.model import AgentSettings, GpuNeed, Queue, ServerAccess
from fleet.queues.base import Script, TaskStatus
from fleet.queues.client import ClearMLServer
from fleet.wire import Enrolled
from tests.fake_centre import FakeCentre
from tests.ports import a_free_port
from tests.waiting import PATIENCE, wait_for

# A supervisor ends what it finds of its own worker: runs of these tests beside each other must not share the name.
CLUSTER = f"test{os.getpid()}"
ONE, TWO, CPU = (GpuNeed(at_least=n, at_most=n) for n in (1, 2, 0))
QUEUES = (
    Queue(name="big", resources=("lab",), need=TWO, priority=10),
    Queue(name="train", resources=("lab",), need=ONE),
    Queue(name="prep", resources=("lab",), need=CPU),
)


class Server:
    """The embedded server as a process, on a port and a state that survive its death."""

    def __init__(self, state: Path) -> None:
        self.port = a_free_port()
        self.state = state
        self.start()
        pair = json.loads((state / "credentials.json").read_text())
        url = f"http://127.0.0.1:{self.port}"
        self.access = ServerAccess(api_url=url, files_url=f"{url}/files", web_url=url, **pair)

    def start(self) -> None:
        command = [sys.executable, "-m", "fleet.server", "--listen", f"127.0.0.1:{self.port}", "--state"]
        with open(self.state.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen([*command, str(self.state)], stdout=log, stderr=log)
        wait_for(self.is_up, 30, "the embedded server starts")

    def is_up(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return (self.state / "credentials.json").exists()
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Machine:
    """One supervisor process and its dispatcher."""

    def __init__(self, directory: Path, access: ServerAccess, sim_gpus: str, driver: Path | None, **wanted) -> None:
        """`driver`: where a driver (NVML) and what it says are, instead of simulated GPUs. `wanted`: of `Enrolled`."""
        enrolled = {
            "instance": directory.name,
            "token": "secret",
            "cluster": CLUSTER,
            "resource": "lab",
            "server": access,
            "queues": QUEUES,
            "agent": AgentSettings(mode="interpreter", stop_grace=timedelta(seconds=2)),
            "idle_timeout": None,
            "poll_interval": timedelta(seconds=1),
            "heartbeat_interval": timedelta(seconds=2),
            "contact_timeout": timedelta(seconds=300),
            "max_lifetime": None,
        }
        self.centre = FakeCentre(Enrolled(**{**enrolled, **wanted}))
        self.directory, self.gpus = directory, sim_gpus
        environment = {
            **os.environ,
            "FLEET_CENTRE_URL": self.centre.url,
            "FLEET_INSTANCE": directory.name,
            "FLEET_JOIN_TOKEN": "join",
            "FLEET_DIR": str(directory),
            **({"FLEET_SIM_GPUS": sim_gpus} if driver is None else driver_of(driver)),
            "FLEET_HOOKS_DIR": str(directory / "hooks"),
        }
        self.log = directory.with_suffix(".log")
        with open(self.log, "wb") as log:
            self.process = self.started(environment, log)
        wait_for(lambda: self.centre.heartbeats, 20, "the supervisor enrols")

    def started(self, environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "fleet.supervisor"], env=environment, stderr=log)

    def agents(self) -> list[psutil.Process]:
        """Every living process of a task of this machine, found by its mark and not by its parent."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                environ = process.environ()
                if environ.get("FLEET_ALLOCATION") and environ.get("TMPDIR", "").startswith(str(self.directory)):
                    found.append(process)
        return found

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20 * PATIENCE)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.centre.close()


def driver_of(directory: Path) -> dict[str, str]:
    return {"LD_LIBRARY_PATH": str(directory), "FAKE_NVML_STATE": str(directory / "state")}


MakeMachine = Callable[..., Machine]


class Person:
    """Somebody who submits scripts and looks at what becomes of them."""

    def __init__(self, client: ClearMLServer) -> None:
        self.client = client

    def submit(
        self,
        queue: str,
        text: str,
        binary: str = "/bin/bash",
        name: str = "a test task",
        requirements: str | None = None,
    ) -> str:
        entry = "script.sh" if "bash" in binary else "script.py"
        script = Script(entry_point=entry, binary=binary, diff=text, requirements=requirements)
        return self.client.submit(name=name, project="tests", queue=queue, script=script)

    def status(self, task: str) -> TaskStatus:
        return self.client.states([task])[task].status

    def log(self, task: str) -> str:
        return "".join(self.client.log(task)[0])

    def ended(self, task: str, seconds: float = 60.0) -> TaskStatus:
        waiting = (TaskStatus.QUEUED, TaskStatus.IN_PROGRESS)
        return wait_for(lambda: (s := self.status(task)) not in waiting and s, seconds, f"task {task} ends")

    def abort(self, task: str) -> None:
        self.client._transport.call("tasks.stop", {"task": task})
