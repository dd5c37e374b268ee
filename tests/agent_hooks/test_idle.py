"""The judgement of `python -m agent_hooks idle`, and how it sees an agent's containers."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from agent_hooks.daemon import Daemon, containers
from agent_hooks.gpus import NvmlGpus
from agent_hooks.hooks import Hooks
from agent_hooks.idle import Idle, Seen, Wanted, why_end
from tests.agent_hooks.clouds import Gce
from tests.system.real_clients import ROOT
from tests.waiting import PATIENCE, wait_for

WANTED = Wanted(idle_timeout_s=900, max_lifetime_s=86_400)


def idle(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent_hooks", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30 * PATIENCE,
        check=False,
    )


def test_a_machine_ends_after_its_idle_time_or_its_longest_life_and_not_before() -> None:
    def at(now: float, idle_since: float | None) -> str | None:
        return why_end(Seen(at_s=now, started_s=0, idle_since_s=idle_since), WANTED)

    assert at(1000, idle_since=101) is None
    assert at(1001, idle_since=101) == "no task for 900 s"
    assert at(86_399, idle_since=None) is None
    assert at(86_400, idle_since=None) == "its longest life, 86400 s, is over"
    assert why_end(Seen(at_s=10**9, started_s=0, idle_since_s=None), Wanted(idle_timeout_s=1)) is None


def test_a_daemon_that_takes_a_task_in_the_last_moment_is_not_told_to_go() -> None:
    """Between the look at it and its end lay seconds, where a driver was slow to tell of its GPUs."""

    class TakesOne(Daemon):
        said: ClassVar = [None, "process 7 runs task t"]

        def why_busy(self) -> str | None:
            if not self.said:
                idle.told_to_stop.set()
                return "process 7 runs task t"
            return self.said.pop(0)

    idle = Idle(Wanted(idle_timeout_s=0.0), TakesOne(), Hooks(None, packaged=()), NvmlGpus())
    assert idle.run(lambda: None) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["idle", "--idle-timeout", "15"], "'15' is no duration; write 90s, 15m, 24h or 1d"),
        (["idle", "--gpu-threshold", "200"], "'200' is no percentage"),
        (["idle", "--end", "'"], "is no command line"),
        (
            ["idle", "--end", "power-off now"],
            "'power-off' is no program of this machine; write poweroff, delete-self, exit",
        ),
        (["doze"], "usage: python -m agent_hooks idle"),
    ],
)
def test_wrong_usage_is_told_and_exit_2(arguments: list[str], said: str) -> None:
    done = idle(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_says_what_would_be_done_and_ends_nothing(tmp_path: Path) -> None:
    done = idle("idle", "--idle-timeout", "0.5s", "--worker-process", "nobody", "--end", "false", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "would end this machine: no task for 0.5 s\n")


def test_a_way_to_end_that_fails_is_exit_1() -> None:
    assert idle("idle", "--idle-timeout", "0.5s", "--worker-process", "nobody", "--end", "false").returncode == 1


def test_what_is_watched_is_said_at_the_start_and_how_to_call_it_where_people_ask() -> None:
    done = idle("idle", "--idle-timeout", "0.5s", "--worker-process", "nobody", "--dry-run")
    said = "watching: ends after 0.5 s without a task; a daemon is not there (yet): if it has another name, give it by --worker-process"
    assert said in done.stderr.splitlines()[0]
    asked = idle("--help")
    assert (asked.returncode, asked.stdout.split(" [")[0]) == (0, "usage: python -m agent_hooks idle")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process as another user")
def test_a_process_of_the_daemon_that_we_may_not_look_at_keeps_the_machine() -> None:
    """It may be a task: once it runs, only its environment says so. Somebody who is not root looks at root's daemon."""
    program = f"clearml-agent-{os.getpid()}"
    daemon = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait", program, "daemon"], start_new_session=True)
    look = f"from agent_hooks.daemon import Daemon; print(Daemon({program!r}, '/nowhere').why_busy())"

    def seen(first: str = "") -> str:
        command = [sys.executable, "-c", f"from agent_hooks import daemon; import os; {first}{look}"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    try:
        wait_for(lambda: psutil.Process(daemon.pid).children(), 5)
        assert seen() == "None\n", "root sees that it is no task"
        # Not by `user=`: the interpreter may lie where only root can run it.
        assert "of the daemon may be a task: to see that, run this as root" in seen("os.setuid(65534); ")
    finally:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def test_containers_of_an_agent_are_asked_for_by_their_label(tmp_path: Path) -> None:
    """After docs.docker.com/reference/api/engine, ContainerList: `filters` is JSON, names begin with a slash."""
    asked = []

    class Engine(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps([{"Id": "1", "Names": ["/clearml-id-7"]}]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

    address = str(tmp_path / "docker.sock")
    with socketserver.UnixStreamServer(address, Engine) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert containers(address) == ["clearml-id-7"]
    assert asked == ["/containers/json?filters=%7B%22label%22%3A%20%5B%22clearml-worker-id%22%5D%7D"]
    assert containers(str(tmp_path / "none.sock")) == []


def test_a_machine_that_its_cloud_takes_back_runs_the_hooks_of_a_notice_and_ends_without_waiting_to_be_idle(
    tmp_path: Path,
) -> None:
    hook = tmp_path / "hooks" / "notice" / "10-note"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\necho $FLEET_REASON >> {tmp_path / 'heard'}\n")
    hook.chmod(0o755)
    cloud = Gce()
    try:
        cloud.say("instance/preempted", "TRUE")
        where = {"FLEET_METADATA_URL": cloud.url, "FLEET_HOOKS_DIR": str(tmp_path / "hooks")}
        end = f"touch {tmp_path / 'ended'}"
        done = idle("idle", "--notices", "gce", "--worker-process", "nobody", "--end", end, **where)
    finally:
        cloud.close()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ended").exists()
    assert (tmp_path / "heard").read_text().strip() in done.stderr
