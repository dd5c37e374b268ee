"""A spot notice and a task that asked to be told: its own abort callback runs, and it goes on from what that saved."""

import importlib.util

import pytest

from fleet.model import RunResult
from fleet.queues.base import Script, TaskStatus
from tests.agent_hooks.clouds import Ec2
from tests.system.ring import MakeRing, Ring
from tests.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("ring"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("clearml") is None, reason="clearml is not installed"),
]

# As its users write it: everything by the SDK, nothing of fleet. SIGTERM has no handler: the callback alone saves.
TRAINING = """
import time
from clearml import Task
task = Task.init("ring", "training")
saved = task.artifacts.get("checkpoint")
step = first = saved.get()["step"] if saved else 0
def save():
    reached, began = step, time.time()  # training goes on meanwhile
    task.upload_artifact("checkpoint", {"step": reached}, wait_on_upload=True)
    print("callback saved", reached, flush=True)
    print("callback began at", began, flush=True)
task.register_abort_callback(save, callback_execution_timeout=20)
print("goes on from", first, "last iteration", task.get_last_iteration(), flush=True)
while not (saved and step >= first + 3):
    step += 1
    task.get_logger().report_scalar("loss", "train", value=1 / step, iteration=step - first)
    time.sleep(0.3)
print("done at", step, flush=True)
"""
# What Google Cloud gives, and what half of it is: the callback must have begun by then, whatever the SDK's configuration says.
SHORTEST_NOTICE_S = 30.0


def reached(ring: Ring, task: str) -> int:
    """The last iteration, as the server knows it."""
    return ring.server._transport.call("tasks.get_by_id", {"task": task}).object("task").count("last_iteration")


def test_under_a_spot_notice_the_callback_of_the_sdk_saves_and_the_task_goes_on_from_there_elsewhere(
    make_ring: MakeRing,
) -> None:
    cloud = Ec2(first_only=True)
    try:
        ring = make_ring(gpus=1, max_instances=2, idle="30s")
        ring.environment |= {"FLEET_PROVIDER": "aws", "FLEET_METADATA_URL": cloud.url}
        ring.start()
        described = Script(entry_point="train.py", binary="python3", diff=TRAINING)
        task = ring.server.submit(name="training", project="ring", queue="train", script=described)
        wait_for(lambda: "goes on from 0 last iteration 0" in ring.console(task), 90, "the task runs", every_s=0.3)
        wait_for(lambda: reached(ring, task) > 0, 60, "the SDK reports how far it is, every few seconds", every_s=0.3)
        cloud.interrupt(left_s=60 * PATIENCE)  # on a busy machine an artifact takes most of a minute
        seen: list[TaskStatus] = []

        def runs_again() -> bool:
            seen.append(ring.state_of(task).status)
            return len(ring.runs(task)) == 2

        wait_for(runs_again, 60, "it runs again")
        assert TaskStatus.COMPLETED not in seen
        assert ring.ends(task) == [TaskStatus.COMPLETED]
        runs = wait_for(lambda: all(run.ended_at for run in ring.runs(task)) and ring.runs(task), 20)
        assert [run.result for run in runs] == [RunResult.REQUEUED, RunResult.COMPLETED]
        assert runs[0].instance != runs[1].instance
        console = ring.console(task)
        (saved,) = [int(line.split()[-1]) for line in console.splitlines() if line.startswith("callback saved ")]
        assert saved > 0
        (began,) = [float(line.split()[-1]) for line in console.splitlines() if line.startswith("callback began at ")]
        assert cloud.said_at
        print(f"notice to callback {began - cloud.said_at:.2f} s")
        assert began - cloud.said_at < SHORTEST_NOTICE_S / 2 * PATIENCE
        assert f"goes on from {saved} last iteration " in console, "its own checkpoint"
        assert f"goes on from {saved} last iteration 0" not in console, "the server remembers how far it was"
        assert f"done at {saved + 3}" in console
        assert "TASK STOPPING - USER ABORTED - LAUNCHING CALLBACK" in console
    finally:
        cloud.close()
