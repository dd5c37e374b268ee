"""`python -m fleet.server`: starts, says in one line why it cannot, ends quickly, answers without a pause."""

import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.ports import a_free_port
from tests.system.real_clients import ROOT, RunningServer
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("clearml-sdk")]


def test_a_taken_port_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "fleet.server", "--listen", address, "--state", str(tmp_path / "state")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"fleet server: cannot listen on {address}: ")
    assert done.stderr.count("\n") == 1


def test_the_first_start_makes_a_credential_that_only_its_owner_reads(clearml_server: Any) -> None:
    file = clearml_server.state / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(clearml_server.state.stat().st_mode) == 0o700
    assert clearml_server.call("users.get_current_user")["user"]["name"] == "root"


def test_calls_on_a_kept_connection_answer_without_the_40_ms_of_a_split_answer(clearml_server: Any) -> None:
    clearml_server.call("debug.ping")
    times = []
    for _ in range(30):
        began = time.perf_counter()
        clearml_server.call("queues.get_all")
        times.append(time.perf_counter() - began)
    assert min(times) < 0.03  # a split answer costs every call its 40 ms; a busy machine only some


def test_sigterm_ends_it_within_seconds_also_with_connections_kept_open(tmp_path: Path) -> None:
    server = RunningServer(tmp_path / "state", a_free_port())
    server.start()
    server.call("debug.ping")
    with requests.Session() as other:
        other.get(f"{server.url}/debug.ping", timeout=5 * PATIENCE)
        began = time.monotonic()
        server.stop()
    assert time.monotonic() - began < 30  # far below what a kept connection may last


def test_of_many_who_claim_at_once_each_gets_another_task(clearml_server: Any) -> None:
    queue = clearml_server.queue("contended")
    tasks = {clearml_server.submit(queue, "true", f"task {i}") for i in range(40)}
    got: list[str] = []

    def claim() -> None:
        session = requests.Session()
        session.auth = (clearml_server.access.access_key, clearml_server.access.secret_key)
        while True:
            answer = session.post(
                f"{clearml_server.url}/queues.get_next_task", json={"queue": queue}, timeout=10 * PATIENCE
            )
            entry = answer.json()["data"].get("entry")
            if entry is None:
                return
            got.append(entry["task"])

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), set(got)) == (40, tasks)
