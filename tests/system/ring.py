"""A whole fleet on this machine for a test: `fleet dispatch` as a process, its memory, and a way to enqueue tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from fleet.assemble.memory import open_database
from fleet.assemble.state import access_from
from fleet.config import load
from fleet.model import Instance, Run, ServerAccess
from fleet.queues.base import Script, TaskState, TaskStatus
from fleet.queues.client import ClearMLServer
from fleet.store.sql import SqlStore
from tests.ports import a_free_port
from tests.signals import heed_signals
from tests.waiting import PATIENCE, wait_for

ROOT = Path(__file__).parents[2]
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
FINAL = {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.STOPPED}

FLEET_FILE = """\
cluster: ring
state_dir: {state}
listen: {host}:{port}
store: {memory}
poll_interval: 1s
agent: {{mode: interpreter}}
resources:
  gpu: {{provider: local, gpus: {gpus}, usd_per_hour: 1, max_instances: {max_instances}, idle_timeout: {idle}}}
queues:
  train: {{resources: [gpu], gpus: 1}}
  double: {{resources: [gpu], gpus: {most}, priority: 5}}
  prep: {{resources: [gpu], gpus: 0}}
"""


@dataclass
class Ring:
    """One fleet. `close` ends everything it started."""

    place: Path
    gpus: int = 4
    max_instances: int = 1
    idle: str = "2s"
    file: str = FLEET_FILE
    host: str = "127.0.0.1"
    memory: str = "sqlite"  # or the URL of a PostgreSQL database
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        text = self.file.format(
            state=self.place / "home" / "ring",
            host=self.host,
            memory=self.memory,
            port=a_free_port(),
            gpus=self.gpus,
            most=min(self.gpus, 2),
            max_instances=self.max_instances,
            idle=self.idle,
        )
        (self.place / "fleet.yaml").write_text(text)
        self.environment = {**os.environ, "FLEET_HOME": str(self.place / "home"), "PYTHONPATH": str(ROOT)}
        self.state = self.place / "home" / "ring"

    def fleet(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One run of the command line, in the directory of the fleet file."""
        command = [sys.executable, "-m", "fleet", *arguments]
        done = subprocess.run(
            command,
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60 * PATIENCE,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def start(self, command: str = "dispatch") -> Ring:
        with (self.place / "dispatch.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fleet", command, "-v", "-c", "fleet.yaml"],
                cwd=self.place,
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=heed_signals,
            )
        pid = self.process.pid
        wait_for(lambda: self._centre().get("pid") == pid or self.process.poll() is not None, 60, "the centre starts")
        assert self.process.poll() is None, (self.place / "dispatch.log").read_text()
        pairs = json.loads((self.state / "credentials.json").read_text())
        self.server = ClearMLServer(self._access(pairs))
        self.store = SqlStore(open_database(load(self.place / "fleet.yaml"), "fleet"))
        wait_for(lambda: self.store.view() is not None, 60, "the first pass")
        return self

    def _access(self, pairs: dict[str, dict[str, str]]) -> ServerAccess:
        """As the centre says of itself where it is, and who vouches for it."""
        said = self._centre()
        authority = Path(str(said["authority"])).read_text() if "authority" in said else None
        return access_from(pairs, str(said["server_url"]), "user", authority)

    def kill(self) -> None:
        """kill -9 of the centre: nothing of it gets a chance to tidy up."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60 * PATIENCE)

    def close(self) -> None:
        """End everything, by the pids that the instances wrote."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for file in (self.state / "local").glob("*/machine.json"):
            for process in _family(json.loads(file.read_text())["pid"]):
                process.kill()

    def _centre(self) -> dict[str, object]:
        try:
            found: dict[str, object] = json.loads((self.state / "centre.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def bash(self, script: str, queue: str = "train", name: str = "a bash task", tags: Sequence[str] = ()) -> str:
        """Enqueue a bash script; the task's id."""
        described = Script(entry_point="run.sh", binary="/bin/bash", diff=script)
        return self.server.submit(name=name, project="ring", queue=queue, script=described, tags=tags)

    def state_of(self, task: str) -> TaskState:
        return self.server.states([task])[task]

    def ends(self, *tasks: str, timeout_s: float = 90) -> list[str]:
        """Their final statuses, once all have one."""

        seen: list[list[str]] = []

        def final() -> list[str] | None:
            """Twice the same: on its way back to a queue a task is *stopped* for a moment."""
            states = [self.state_of(t).status for t in tasks]
            seen.append([str(s) for s in states])
            is_over = all(s in FINAL for s in states) and seen[-2:] == [seen[-1]] * 2
            return seen[-1] if is_over else None

        return wait_for(final, timeout_s, every_s=0.3, what="the tasks end") or []

    def console(self, task: str) -> str:
        texts, after = self.server.log(task)
        while True:
            more, after = self.server.log(task, after)
            if not more:
                return "\n".join(texts)
            texts = [*texts, *more]

    def instances(self) -> tuple[Instance, ...]:
        """All there ever were."""
        return self.store.instances("ring", gone_after=LONG_AGO)

    def runs(self, task: str | None = None) -> tuple[Run, ...]:
        return self.store.runs(task) if task else self.store.runs(ended_after=LONG_AGO)


MakeRing = Callable[..., Ring]


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
