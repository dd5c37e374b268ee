"""`python -m agent_hooks idle` beside a real `clearml-agent daemon` and the embedded server."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.real_clients import BIN, ROOT, Home, RunningServer
from tests.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("clearml-sdk"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
]


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLEET_HOOKS_DIR": str(tmp_path / "hooks")}
        command = [sys.executable, "-m", "agent_hooks", "idle", *arguments]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def a_daemon(home: Home, place: Path, queue: str) -> tuple[subprocess.Popen[bytes], str]:
    """The stock daemon, by a name that no other daemon of this machine has."""
    program = place / f"clearml-agent-{os.getpid()}"
    program.write_text((BIN / "clearml-agent").read_text())
    program.chmod(0o755)
    with (home.folder / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            [str(program), "daemon", "--foreground", "--queue", queue],
            cwd=home.folder,
            env=home.environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    home.processes.append(process)
    return process, program.name


def workers(server: RunningServer, home: Home) -> list[str]:
    found = [str(worker["id"]) for worker in server.call("workers.get_all")["workers"]]
    return [worker for worker in found if worker.startswith(home.folder.name)]


def test_a_machine_with_a_stock_daemon_stays_while_a_task_runs_and_ends_when_it_is_idle(
    home, clearml_server, tmp_path, beside
):
    gate, story = tmp_path / "gate", tmp_path / "story"
    hook = tmp_path / "hooks" / "shutdown" / "10-note"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\necho hook $FLEET_REASON >> {story}\n")
    hook.chmod(0o755)
    task = clearml_server.submit(clearml_server.queue("idle"), f"until [ -e {gate} ]; do sleep 0.1; done")
    daemon, name = a_daemon(home, tmp_path, "idle")
    wait_for(lambda: clearml_server.task(task)["status"] == "in_progress", 60, "the daemon takes the task")
    end = f"sh -c 'echo end >> {story}'"
    here = beside("--idle-timeout", "4s", "--worker-process", name, "--end", end)
    with pytest.raises(subprocess.TimeoutExpired):
        here.wait(8)  # twice the idle time
    assert clearml_server.task(task)["status"] == "in_progress"
    gate.touch()
    assert here.wait(60 * PATIENCE) == 0
    assert clearml_server.task(task)["status"] == "completed"
    assert daemon.wait(20 * PATIENCE) is not None
    assert workers(clearml_server, home) == []
    assert story.read_text() == "hook no task for 4 s\nend\n"
    said = here.stderr.read()
    assert f"runs task {task}" in said
    assert "Traceback" not in said


def test_a_person_holds_the_machine_by_a_file_and_whoever_stops_the_watch_ends_nothing(tmp_path, beside):
    keep = tmp_path / "keep-alive"
    keep.touch()
    end = f"touch {tmp_path / 'ended'}"
    here = beside("--idle-timeout", "1s", "--worker-process", "nobody", "--keep-alive", str(keep), "--end", end)
    with pytest.raises(subprocess.TimeoutExpired):
        here.wait(4)
    here.send_signal(signal.SIGTERM)
    assert here.wait(20 * PATIENCE) == 3
    assert "keep-alive was touched" in here.stderr.read()
    assert not (tmp_path / "ended").exists()
