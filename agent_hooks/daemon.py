"""An ordinary `clearml-agent daemon` beside us: is it there, does it run a task, and how it is told to go.

It has no way to stop after its present task: SIGTERM (`daemon --stop` sends the same) ends the task too. So it is only told to go
while it has none.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterator
from urllib.parse import quote

import psutil

DOCKER_SOCKET = "/var/run/docker.sock"
DOCKER_TIMEOUT_S = 5.0
TASK_LABEL = "clearml-worker-id"  # of every container that an agent starts
STOP_WITHIN_S = 20.0


class Daemon:
    """All daemons of this machine whose command line names `program`."""

    def __init__(self, program: str = "clearml-agent", docker_socket: str = DOCKER_SOCKET) -> None:
        self._names = {program, program.replace("-", "_")}
        self._docker_socket = docker_socket

    def why_busy(self) -> str | None:
        """The task that runs, as one sentence; None: none does. What may not be looked at may be one."""
        daemons = {process.pid for process in self._processes()}
        for pid in daemons:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(pid).children(recursive=True):
                    if task := _task_of(child):
                        return f"process {child.pid} runs task {task}"
                    if child.pid not in daemons and _is_closed(child):
                        return f"process {child.pid} of the daemon may be a task: to see that, run this as root or as the daemon's user"
        for name in containers(self._docker_socket):
            return f"container {name} runs a task"
        return None

    def is_there(self) -> bool:
        return any(True for _ in self._processes())

    def stop(self) -> bool:
        """Tell it to go, and wait: it unregisters its worker. False: it is still there."""
        found = list(self._processes())
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, left = psutil.wait_procs(found, timeout=STOP_WITHIN_S)
        return not left

    def _processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if "daemon" in words and any(word.rpartition("/")[2] in self._names for word in words):
                    yield process


def _task_of(process: psutil.Process) -> str | None:
    """The agent says it in its arguments while it prepares a task; then it becomes the task, which has it in its environment."""
    with contextlib.suppress(psutil.Error):
        words = " ".join(process.cmdline()).split()
        if "execute" in words and "--id" in words[:-1]:
            return words[words.index("--id") + 1].strip("\"'")
        environ = process.environ()
        return environ.get("CLEARML_TASK_ID") or environ.get("TRAINS_TASK_ID")
    return None


def _is_closed(process: psutil.Process) -> bool:
    """Whether it lives, and only others may see what is in its environment."""
    try:
        process.environ()
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
    return False


def is_engine_closed(docker_socket: str = DOCKER_SOCKET) -> bool:
    """Whether there is a docker engine that we may not ask."""
    return os.path.exists(docker_socket) and not os.access(docker_socket, os.R_OK | os.W_OK)


def containers(docker_socket: str) -> list[str]:
    """Names of containers that an agent started and that run now; none where there is no docker, or it does not answer."""
    connection = http.client.HTTPConnection("docker", timeout=DOCKER_TIMEOUT_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(DOCKER_TIMEOUT_S)
        connection.sock.connect(docker_socket)
        connection.request("GET", f"/containers/json?filters={quote(json.dumps({'label': [TASK_LABEL]}))}")
        answer = connection.getresponse()
        found = json.loads(answer.read()) if answer.status == 200 else []
        return [str(each["Names"][0]).lstrip("/") for each in found]
    except (OSError, ValueError, http.client.HTTPException):
        return []
    finally:
        connection.close()
