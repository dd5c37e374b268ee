"""A gang as the SDK runs it: rank 0 starts when two machines are free, clones itself, and the clone goes to the second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.queues.base import Script
from tests.system.ring import Ring
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ring")]

TRAINING = """\
import time
from clearml import Task

task = Task.init(project_name="ring", task_name="gang")
nodes = task.launch_multi_node(2, wait=True, addr="127.0.0.1")
print("I am rank", nodes["node_rank"], flush=True)
time.sleep(3)
"""


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    made = Ring(tmp_path, gpus=2, max_instances=2, idle="30s").start()
    yield made
    made.close()


def test_two_nodes_of_a_training_run_at_once_on_two_machines_though_small_tasks_wait(ring: Ring) -> None:
    script = Script(entry_point="gang.py", diff=TRAINING)
    gang = ring.server.submit(
        name="gang", project="ring", queue="train", script=script, tags=("gpus:2", "instances:2")
    )  # fmt: skip
    small = [ring.bash("sleep 1", name=f"small {n}") for n in range(4)]
    assert ring.ends(gang, *small, timeout_s=180) == ["completed"] * 5
    runs = wait_for(lambda: len([r for r in ring.runs() if r.ended_at]) == 6 and ring.runs())
    nodes = [run for run in runs if len(run.gpus) == 2]
    assert len({run.instance for run in nodes}) == 2
    assert max(run.claimed_at for run in nodes) < min(run.ended_at for run in nodes if run.ended_at)
    assert sorted(rank for run in nodes for rank in ("0", "1") if f"I am rank {rank}" in ring.console(run.task)) == [
        "0",
        "1",
    ]
