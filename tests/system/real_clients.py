"""Real parts for system tests: the server as a process, the unmodified clearml SDK and clearml-agent beside it.

Each process has its own HOME, TMPDIR and clearml.conf, and speaks to 127.0.0.1 alone.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests

from fleet.model import ServerAccess
from fleet.server.conf import render_clearml_conf
from tests import waiting
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DEADLINE_S = 60.0
T = TypeVar("T")


def wait_for(what: str, ask: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """The first true answer of `ask`; fails with `what` after the deadline."""
    return waiting.wait_for(ask, deadline_s, what, every_s=0.1)


@dataclass
class RunningServer:
    """`python -m fleet.server` on a port of its own, and a client of it."""

    state: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def access(self) -> ServerAccess:
        pair = json.loads((self.state / "credentials.json").read_text())
        return ServerAccess(
            api_url=self.url,
            web_url=self.url,
            files_url=f"{self.url}/files",
            access_key=pair["access_key"],
            secret_key=pair["secret_key"],
        )

    def start(self) -> None:
        command = [sys.executable, "-m", "fleet.server", "--listen", f"127.0.0.1:{self.port}", "--state", self.state]
        with (self.state.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )
        wait_for("the server answers", self._answers, 20)

    def kill(self) -> None:
        """SIGKILL: nothing of it gets a chance to tidy up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(timeout=60 * PATIENCE) == 0

    def call(self, endpoint: str, /, **fields: Any) -> dict[str, Any]:
        """The `data` of the answer."""
        self.session.auth = (self.access.access_key, self.access.secret_key)
        answer = self.session.post(f"{self.url}/{endpoint}", json=fields, timeout=10 * PATIENCE).json()
        assert answer["meta"]["result_code"] == 200, answer["meta"]
        return answer["data"]

    def task(self, task: str) -> dict[str, Any]:
        return self.call("tasks.get_by_id", task=task)["task"]

    def queue(self, name: str) -> str:
        return str(self.call("queues.create", name=name)["id"])

    def console(self, task: str) -> str:
        page = self.call("events.get_task_log", task=task, batch_size=10_000, navigate_earlier=False, order="asc")
        return "".join(event["msg"] + "\n" for event in page["events"])

    def ends(self, task: str, deadline_s: float = DEADLINE_S) -> str:
        """The status of a task once it has one that lasts."""
        lasting = ("completed", "failed", "stopped")
        wait_for(f"task {task} ends", lambda: self.task(task)["status"] in lasting, deadline_s)
        return str(self.task(task)["status"])

    def submit(self, queue: str, script: str, name: str = "task", **fields: Any) -> str:
        """A bash task, enqueued: it needs no environment, so it starts at once."""
        body = {"binary": "/bin/bash", "diff": script, "entry_point": "run.sh", "working_dir": "."}
        task = self.call("tasks.create", name=name, type="training", script=body, **fields)["id"]
        self.call("tasks.enqueue", task=task, queue=queue)
        return str(task)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.state.parent / "server.log").read_text()[-2000:]
        try:
            return requests.get(f"{self.url}/debug.ping", timeout=1).ok
        except (requests.ConnectionError, requests.Timeout):
            return False


@dataclass
class Home:
    """A place for client processes: HOME, TMPDIR and clearml.conf of their own. Ends what it started."""

    folder: Path
    server: RunningServer
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        conf = self.folder / "clearml.conf"
        quick = "sdk.development.worker { report_period_sec: 0.5, ping_period_sec: 2 }\n"
        conf.write_text(render_clearml_conf(self.server.access) + quick)
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LD_LIBRARY_PATH")}
        return {
            **keep,
            "PATH": f"{BIN}:{keep.get('PATH', '')}",
            "HOME": str(self.folder),
            "TMPDIR": str(temporary),
            "CLEARML_CONFIG_FILE": str(conf),
            "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1",
            "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC": "0.5",
            "CLEARML_AGENT_INITIAL_CONNECT_RETRY_OVERRIDE": "false",
            "CLEARML_AGENT_NO_UPDATE": "1",
            "CLEARML_WORKER_NAME": self.folder.name,
            "PYTHONUNBUFFERED": "1",
        }

    def daemon(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """A stock `clearml-agent daemon --foreground`."""
        command = [str(BIN / "clearml-agent"), "daemon", "--foreground", *arguments]
        with (self.folder / "agent.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**self.environment(), **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def python(self, script: str, *arguments: str, deadline_s: float = DEADLINE_S) -> str:
        """Run a script with the SDK as a researcher would; its output. Fails if it fails."""
        file = self.folder / "script.py"
        file.write_text(script)
        done = subprocess.run(
            [sys.executable, str(file), *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(timeout=10 * PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
