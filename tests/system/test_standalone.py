"""A machine without a dispatcher: `fleet supervise --standalone` beside a server that is a process of its own."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fleet.queues.base import TaskStatus
from tests.system.edge import Person, Server
from tests.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("edge"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
]

ROOT = Path(__file__).parents[2]
FILE = """\
cluster = "alone{pid}"
machine = "box"
gpus = 2
poll_interval = "500ms"
[server]
url = "{url}"
access_key = "{access_key}"
secret_key = "${{SERVER_SECRET}}"
[agent]
mode = "interpreter"
stop_grace = "1s"
[queues.first]
priority = 5
[queues.second]
gpus = 0
"""


class Box:
    """One machine by its file."""

    def __init__(self, place: Path, server: Server) -> None:
        access = server.access
        self.file = place / "machine.toml"
        self.file.write_text(FILE.format(pid=os.getpid(), url=access.api_url, access_key=access.access_key))
        self.log = place / "box.log"
        self.directory = place / "box"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("FLEET_", "CLEARML_"))},
            "PYTHONPATH": str(ROOT),
            "SERVER_SECRET": access.secret_key,
            "FLEET_DIR": str(self.directory),
            "FLEET_HOOKS_DIR": str(place / "hooks"),
        }

    def command(self) -> list[str]:
        return [sys.executable, "-m", "fleet", "supervise", "--standalone", "--config", str(self.file)]

    def start(self) -> "Box":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), env=self.environment, stderr=log)
        return self

    def refusal(self) -> str:
        done = subprocess.run(
            self.command(), env=self.environment, capture_output=True, text=True, timeout=60 * PATIENCE, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    def journal(self) -> list[Path]:
        return sorted((self.directory / "journal").glob("*.json"))


@pytest.fixture
def box(tmp_path: Path, server: Server) -> Iterator[Box]:
    box = Box(tmp_path, server)
    yield box
    if box.process.poll() is None:
        box.process.kill()
        box.process.wait()
    sys.stdout.write(box.log.read_text())


def test_tasks_of_its_queues_run_and_after_kill_9_it_is_the_same_machine_again(
    box: Box, server: Server, clearml: Person, tmp_path: Path
) -> None:
    box.start()
    wait_for(lambda: (box.directory / "journal").exists(), 30, "it works, so it has made its queues")
    wait_for(lambda: "at work: machine=box" in box.log.read_text(), 30, "it says for whom it works, and with what")
    assert "queues='first (GPUs of a task: 1), second (GPUs of a task: 0)'" in box.log.read_text()
    show = 'echo "on $FLEET_GPU_INDICES, secret: ${SERVER_SECRET-none}, path: ${PATH:+some}"'
    done = [clearml.submit("first", show), clearml.submit("second", "echo cpu")]
    assert [clearml.ended(task) for task in done] == [TaskStatus.COMPLETED] * 2
    assert "on 0, secret: none, path: some" in clearml.log(done[0]), "what the file names is not the tasks'"
    wait_for(lambda: not box.journal(), 10, "what is settled is forgotten, though no dispatcher has heard of it")

    process = psutil.Process(box.process.pid)
    assert "SERVER_SECRET" not in process.environ(), "nor can a hook, or a task of the same user, find it there"
    assert process.cmdline()[1:4] == ["-m", "fleet.supervisor", "--standalone"]
    spoken_with = {c.raddr.port for c in process.net_connections("tcp") if c.raddr}
    assert spoken_with <= {server.port}, "the server, and no dispatcher"
    assert [c for c in process.net_connections() if c.status == psutil.CONN_LISTEN] == []

    large = clearml.submit("first", "echo never", name="gpus 3")
    clearml.client._transport.call("tasks.edit", {"task": large, "tags": ["gpus:3"], "force": True})
    wait_for(
        lambda: f"task cannot run here: task={large} why='needs 3 GPUs; this machine has 2'" in box.log.read_text(), 20
    )

    mark = tmp_path / "second life"
    runs = clearml.submit("first", f'if [ -e "{mark}" ]; then echo again; else touch "{mark}"; sleep 300; fi')
    wait_for(mark.exists, 30, "the task runs")
    box.process.send_signal(signal.SIGKILL)
    box.process.wait()
    assert len(box.journal()) == 1
    box.start()
    # Not `ended`: on its way back to its queue it is *stopped* for a moment.
    wait_for(lambda: clearml.status(runs) is TaskStatus.COMPLETED, 60, "it runs again")
    assert "again" in clearml.log(runs)
    wait_for(lambda: not box.journal(), 10, "the journal is empty again")

    box.process.send_signal(signal.SIGTERM)
    assert box.process.wait(20 * PATIENCE) == 0, "nothing runs, so the drain is its end"


def test_a_machine_whose_file_is_wrong_or_whose_server_does_not_know_it_says_so_in_one_line(
    tmp_path: Path, server: Server
) -> None:
    box = Box(tmp_path, server)
    good = box.file.read_text()
    box.environment["SERVER_SECRET"] = "wrong"
    said = box.refusal()
    assert said.count("\n") == 1
    assert said.startswith("fleet: ")
    assert "Traceback" not in said
    box.file.write_text(good.replace(str(server.port), "1"))
    said = box.refusal()
    assert (said.count("\n"), "(server.url) running?" in said) == (1, True)
    box.file.write_text(good.replace("priority", "priorty"))
    assert box.refusal() == f"fleet: {box.file}: queues.first.priorty: unknown key; did you mean priority?\n"
    box.file.unlink()
    said = box.refusal()
    assert said.startswith(f"fleet: {box.file}: No such file or directory; write it: docs/configuration.md")
    assert "fleet init" not in said
