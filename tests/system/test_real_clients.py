"""The unmodified clearml SDK and clearml-agent against the embedded server; asserts on what the server then holds."""

from typing import Any

import pytest

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("clearml")]


def test_a_stock_daemon_runs_an_enqueued_task_and_its_console_arrives(clearml_server: Any, home: Any) -> None:
    queue = clearml_server.queue("plain")
    home.daemon("--queue", "plain", "--cpu-only")
    task = clearml_server.submit(queue, 'for i in 1 2 3; do echo "line $i"; done\n')
    assert clearml_server.ends(task) == "completed"
    console = clearml_server.console(task)
    assert [f"line {i}" in console for i in (1, 2, 3)] == [True] * 3
    held = clearml_server.task(task)
    assert held["last_worker"].startswith(home.folder.name)
    assert held["status_reason"] == "worker execution done"
    assert held["execution"]["queue"] == queue
