"""Real parts in a temporary directory: a centre started from a fleet file, a stock agent daemon, the server alone.

Every process that a rig starts ends with it, the machines of its centre included.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks.client import Client
from benchmarks.processes import descendants
from fleet.assemble.state import access_from
from fleet.database import Database
from fleet.model import Event, Instance, Run, ServerAccess
from fleet.server.conf import render_clearml_conf
from fleet.store.sql import SqlStore

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
CLUSTER = "bench"
DEADLINE_S = 60.0
LOOK_EVERY_S = 0.02
END_WITHIN_S = 20.0
STOCK_POLLS_EVERY_S = 5.0  # the daemon's own default
T = TypeVar("T")


def wait_for(
    what: str, ask: Callable[[], T | None], deadline_s: float = DEADLINE_S, every_s: float = LOOK_EVERY_S
) -> T:
    """The first true answer of `ask`.

    Raises:
        TimeoutError: there was none in time.
    """
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if answer := ask():
            return answer
        time.sleep(every_s)
    raise TimeoutError(f"not within {deadline_s:g} s: {what}")


@dataclass(frozen=True, slots=True)
class Centre:
    """A running `fleet dispatch` and its memory, read from beside it."""

    process: subprocess.Popen[bytes]
    url: str
    access: ServerAccess
    store: SqlStore
    environment: Mapping[str, str]  # of commands for it
    state: Path

    def instances(self) -> tuple[Instance, ...]:
        """All that are not gone."""
        return self.store.instances(CLUSTER)

    def run_of(self, task: str) -> Run | None:
        """The last attempt of this task."""
        return next(iter(self.store.runs(task=task)[-1:]), None)

    def events(self, kind: str, after: int) -> list[Event]:
        return [e for e in self.store.events(after=after) if e.kind == kind]

    def machine(self, instance: str) -> int:
        """The pid of the first process of a local instance."""
        return int(json.loads((self.state / "local" / instance / "machine.json").read_text())["pid"])

    def supervisor(self, instance: str) -> int:
        """The pid of its supervisor: the child of its first process."""
        machine = psutil.Process(self.machine(instance))
        return wait_for("a supervisor", lambda: next((c.pid for c in machine.children() if _is_supervisor(c)), None))


@contextmanager
def directory() -> Iterator[Path]:
    """A short one, because sockets are made below it."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as place:
        yield Path(place)


@contextmanager
def centre(place: Path, fleet_file: str, environment: Mapping[str, str] | None = None) -> Iterator[Centre]:
    """`fleet dispatch` on a fleet file, from its first answer on. `environment`: more of it, for its machines too."""
    file = place / "fleet.yaml"
    server = "" if "\nserver:" in fleet_file else "server: {url: embedded}\n"
    file.write_text(f"cluster: {CLUSTER}\n{server}{fleet_file}")
    environment = {
        **clean_environment(),
        **(environment or {}),
        "FLEET_HOME": str(place / "home"),
        "FLEET_CONFIG": str(file),
    }
    state = place / "home" / CLUSTER
    command = [sys.executable, "-m", "fleet", "dispatch", "--config", str(file)]
    with _process(command, place, environment, place / "centre.log") as process:
        wait_for("the centre runs", lambda: _alive(process, place / "centre.log") and (state / "centre.json").exists())
        said = json.loads((state / "centre.json").read_text())
        pairs = json.loads((state / "credentials.json").read_text())
        database = Database(f"sqlite:///{state / 'fleet.db'}")
        authority = Path(said["authority"]).read_text() if "authority" in said else None
        access = access_from(pairs, said["server_url"], "user", authority)
        try:
            yield Centre(process, said["url"], access, SqlStore(database), environment, state)
        finally:
            _end([process.pid])  # first, or it would launch anew what we end
            _kill(_machines(state))  # by force: who has lost his centre takes seconds to say goodbye
            database.close()


@contextmanager
def server(place: Path) -> Iterator[tuple[subprocess.Popen[bytes], ServerAccess]]:
    """The embedded server alone, on SQLite."""
    state = place / "server"
    command = [sys.executable, "-m", "fleet.server", "--listen", "127.0.0.1:0", "--state", str(state)]
    with _process(command, place, clean_environment(), place / "server.log") as process:
        port = wait_for("the server listens", lambda: _alive(process, place / "server.log") and _port_of(process.pid))
        pair = wait_for("credentials", lambda: (state / "credentials.json").exists() and _read(state))
        url = f"http://127.0.0.1:{port}"
        yield process, access_from({"root": pair}, url, "root")


@contextmanager
def stock_daemon(
    place: Path, access: ServerAccess, queue: str, polls_every_s: float = STOCK_POLLS_EVERY_S, name: str = "stock"
) -> Iterator[subprocess.Popen[bytes]]:
    """An unmodified `clearml-agent daemon`, once it has begun to poll."""
    home = place / name
    (home / "tmp").mkdir(parents=True)
    (home / "clearml.conf").write_text(render_clearml_conf(access))
    environment = {
        **clean_environment(),
        "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "CLEARML_CONFIG_FILE": str(home / "clearml.conf"),
        "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1",
        "CLEARML_AGENT_NO_UPDATE": "1",
        "CLEARML_WORKER_NAME": name,
        "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC": str(polls_every_s),
        "PYTHONUNBUFFERED": "1",
    }
    command = [str(BIN / "clearml-agent"), "daemon", "--foreground", "--queue", queue, "--create-queue", "--cpu-only"]
    client = Client(access)
    log = place / f"{name}.log"
    with _process(command, home, environment, log) as process:
        wait_for("the stock daemon polls", lambda: _alive(process, log) and _is_known(client, f"{name}:"))
        yield process


def a_task(client: Client, script: str = "true\n") -> str:
    """A draft that runs in bash: what is measured ends where its own work begins."""
    body = {"binary": "/bin/bash", "diff": script, "entry_point": "run.sh", "working_dir": "."}
    return str(client.call("tasks.create", name="a task", type="training", script=body)["id"])


def queues(client: Client, names: Sequence[str]) -> dict[str, str]:
    """Ids by name, once the dispatcher has made them."""

    def known() -> dict[str, str]:
        found = {q["name"]: str(q["id"]) for q in client.call("queues.get_all")["queues"]}
        return {name: found[name] for name in names} if found.keys() >= set(names) else {}

    return wait_for("the queues are made", known)


def run_one(client: Client, queue: str) -> None:
    """A task from its enqueuing to its end."""
    task = a_task(client)
    client.call("tasks.enqueue", task=task, queue=queue)
    wait_for("the task completes", lambda: client.call("tasks.get_by_id", task=task)["task"]["status"] == "completed")


def a_free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def _process(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end([process.pid])
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def clean_environment() -> dict[str, str]:
    """Ours, without what would speak for another fleet or another ClearML server."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET_", "CLEARML_", "TRAINS_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def _end(pids: Sequence[int]) -> None:
    """Ask them to end, wait, then make them."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=END_WITHIN_S)
    _kill([process.pid for process in left])


def _kill(pids: Sequence[int]) -> None:
    """A supervisor dies with the first process of its machine, and its agents with it."""
    families = [each for pid in pids for each in (pid, *descendants(pid))]
    processes = [psutil.Process(pid) for pid in families if psutil.pid_exists(pid)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=END_WITHIN_S)


def _machines(state: Path) -> list[int]:
    """First processes of the local instances that still run."""
    found = []
    for file in (state / "local").glob("*/machine.json"):
        pid = int(json.loads(file.read_text())["pid"])
        with suppress(psutil.Error):
            if "fleet.providers.local_machine" in psutil.Process(pid).cmdline():
                found.append(pid)
    return found


def _alive(process: subprocess.Popen[bytes], log: Path) -> bool:
    """True.

    Raises:
        RuntimeError: it has ended, with its last words.
    """
    if process.poll() is not None:
        words = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"{log.stem} ended with exit code {process.returncode}: {' '.join(words)}")
    return True


def _is_supervisor(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "fleet.supervisor" in process.cmdline()
    return False


def _port_of(pid: int) -> int | None:
    listening = [c for c in psutil.Process(pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return int(listening[0].laddr.port) if listening else None


def _read(state: Path) -> dict[str, str]:
    pair: dict[str, str] = json.loads((state / "credentials.json").read_text())
    return pair


def _is_known(client: Client, name: str) -> bool:
    workers = client.call("workers.get_all", last_seen=3600)["workers"]
    return any(str(w["id"]).startswith(name) for w in workers)
