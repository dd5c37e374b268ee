"""The unmodified clearml SDK and clearml-agent against the embedded server; asserts on what the server then holds."""

import json
import re
import time
from typing import Any

import pytest

from tests.system.real_clients import wait_for

pytestmark = pytest.mark.system

TRAIN = """
import argparse, time
from clearml import Task
parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--fail", type=int, default=0)
parser.add_argument("--lr", type=float, default=0.1)
args = parser.parse_args()
task = Task.init(project_name="tour", task_name="train", reuse_last_task_id=False)
layers = task.connect({"hidden": 16})
task.execute_remotely(queue_name="sdk", clone=False, exit_process=True)
for step in range(args.steps):
    task.get_logger().report_scalar("loss", "train", 1.0 / (step + 1), step)
    print("step", step, "lr", args.lr, "hidden", layers["hidden"], flush=True)
    time.sleep(0.2)
task.get_logger().report_text("a text for the log")
task.upload_artifact("result", {"lr": args.lr})
if args.fail:
    raise RuntimeError("boom at the end")
"""

CLONE = """
import sys
from clearml import Task
source = Task.get_task(task_id=sys.argv[1])
for name, steps, fail in (("long", 1000, 0), ("failing", 3, 1)):
    clone = Task.clone(source_task=source, name=name)
    clone.set_parameters({"Args/lr": 0.5, "General/hidden": 99, "Args/steps": steps, "Args/fail": fail})
    Task.enqueue(clone, queue_name="sdk")
    print("CLONE", name, clone.id)
"""

CONNECTIONS = """
import psutil, time
from clearml import Task
task = Task.init(project_name="tour", task_name="connections", reuse_last_task_id=False)
me, deadline = psutil.Process(), time.monotonic() + 60
while not me.children() and time.monotonic() < deadline:
    task.set_parameter("Args/n", 1)
reporters = me.children()
for n in range(20):
    task.set_parameter("Args/n", n)
ports = [{c.laddr.port for c in p.net_connections()} for p in (me, *reporters)]
print("SHARED", len(reporters), sum(bool(ports[0] & others) for others in ports[1:]))
"""

READ_AND_RUN_AGAIN = """
import json, sys
from clearml import Task
task = Task.get_task(task_id=sys.argv[1])
print("READ", json.dumps({
    "status": task.get_status(),
    "artifact": task.artifacts["result"].get(),
    "scalars": task.get_reported_scalars()["loss"]["train"]["y"],
    "console": "".join(task.get_reported_console_output(number_of_reports=100)),
    "parameters": task.get_parameters(),
}))
failed = Task.get_task(task_id=sys.argv[2])
failed.reset(force=True)
failed.set_parameter("Args/fail", 0)
Task.enqueue(failed, queue_name="sdk")
"""


@pytest.mark.xdist_group("clearml-agent")
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


@pytest.mark.xdist_group("clearml-sdk")
def test_the_reporter_that_the_sdk_forks_talks_on_a_connection_of_its_own(clearml_server: Any, home: Any) -> None:
    """Two that talk on one get 400, or the answer of the other: docs/adr/0054-connections-of-the-sdk.md."""
    assert "SHARED 1 0" in home.python(CONNECTIONS)


@pytest.mark.xdist_group("clearml-sdk")
def test_the_tour_of_the_sdk(clearml_server: Any, home: Any) -> None:
    """init, execute_remotely, clone with other parameters, artifact, scalars, text, failure, abort, reset, again."""
    clearml_server.queue("sdk")
    home.daemon("--queue", "sdk", "--cpu-only")
    first = re.search(r"new task id=(\w+)", home.python(TRAIN))[1]  # type: ignore[index]
    assert clearml_server.task(first)["system_tags"] == []  # no longer "development"
    clones = dict(re.findall(r"CLONE (\w+) (\w+)", home.python(CLONE, first)))
    long, failing = clones["long"], clones["failing"]
    assert clearml_server.task(long)["parent"] == first

    wait_for("the clone prints", lambda: "step 3 lr 0.5 hidden 99" in clearml_server.console(long), 90)
    assert clearml_server.call("tasks.stop", task=long)["fields"]["status"] == "in_progress"
    assert clearml_server.ends(long) == "stopped"
    assert "Process aborted by user" in clearml_server.console(long)

    assert clearml_server.ends(failing) == "failed"
    console = clearml_server.console(failing)
    assert "Traceback (most recent call last)" in console
    assert "RuntimeError: boom at the end" in console

    read = json.loads(home.python(READ_AND_RUN_AGAIN, first, failing).split("READ ", 1)[1].splitlines()[0])
    assert (read["status"], read["artifact"]) == ("completed", {"lr": 0.1})
    assert read["scalars"] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert read["parameters"]["Args/lr"] == "0.1"
    assert "step 2 lr 0.1 hidden 16" in read["console"]
    assert "a text for the log" in read["console"]

    assert clearml_server.ends(failing) == "completed"
    console = clearml_server.console(failing)
    assert "step 2 lr 0.5" in console
    assert "boom" not in console  # the log of the first run went with the reset


TIMED = 'echo "began $(date +%s%N)"; sleep 2; echo "ended $(date +%s%N)"\n'


def most_at_once(server: Any, tasks: list[str]) -> int:
    """How many of these tasks ran at the same time at most, by the times that they printed."""
    moments = []
    for task in tasks:
        console = server.console(task)
        for word, step in (("began", 1), ("ended", -1)):
            moments.append((int(re.search(rf"{word} (\d+)", console)[1]), step))  # type: ignore[index]
    running, most = 0, 0
    for _, step in sorted(moments):
        running += step
        most = max(most, running)
    return most


@pytest.mark.xdist_group("clearml-agent")
def test_services_mode_keeps_its_limit(clearml_server: Any, home: Any) -> None:
    queue = clearml_server.queue("services")
    tasks = [clearml_server.submit(queue, TIMED, f"service {i}") for i in range(3)]
    home.daemon("--queue", "services", "--services-mode", "2", "--cpu-only")
    assert [clearml_server.ends(task) for task in tasks] == ["completed"] * 3
    # Without docker a stock agent counts itself too, so of a limit of 2 one task runs beside it; without the server's
    # set_runtime_properties it would drop the limit and run all at once.
    assert most_at_once(clearml_server, tasks) <= 2
    properties = clearml_server.call("workers.get_runtime_properties", worker=f"{home.folder.name}:cpu:0")
    assert {"key": "max_num_instances", "value": "2"} in properties["runtime_properties"]


MEET = 'echo "sees $CUDA_VISIBLE_DEVICES."; touch "{folder}/$$"; until [ $(ls {folder} | wc -l) = 3 ]; do sleep 0.1; done\n'


@pytest.mark.xdist_group("clearml-agent")
def test_dynamic_gpus_of_a_stock_daemon_share_four_gpus_between_two_queues(clearml_server: Any, home: Any) -> None:
    two, one = clearml_server.queue("two"), clearml_server.queue("one")
    folder = home.folder / "meet"
    folder.mkdir()
    script = MEET.format(folder=folder)  # each waits until all three run
    tasks = [clearml_server.submit(queue, script, f"gpu {i}") for i, queue in enumerate([two, one, one])]
    home.daemon("--dynamic-gpus", "--gpus", "0-3", "--queue", "two=2", "one=1")
    assert [clearml_server.ends(task) for task in tasks] == ["completed"] * 3
    seen = [re.search(r"sees ([\d,]+)\.", clearml_server.console(task))[1].split(",") for task in tasks]  # type: ignore[index]
    assert [len(gpus) for gpus in seen] == [2, 1, 1]
    assert sorted(gpu for gpus in seen for gpu in gpus) == ["0", "1", "2", "3"]  # nobody shared one


@pytest.mark.xdist_group("clearml-agent")
def test_a_stock_daemon_drains_by_its_runtime_property(clearml_server: Any, home: Any) -> None:
    queue = clearml_server.queue("drained")
    worker = f"{home.folder.name}:cpu:0"
    force = lambda value: clearml_server.call(  # noqa: E731
        "workers.set_runtime_properties", worker=worker, runtime_properties=[{"key": "force", "value": value}]
    )
    force("off")
    home.daemon("--queue", "drained", "--cpu-only")
    workers = lambda: [w["id"] for w in clearml_server.call("workers.get_all")["workers"]]  # noqa: E731
    wait_for("the worker registers", lambda: worker in workers())
    task = clearml_server.submit(queue, "echo ran\n")
    asked = time.monotonic()
    wait_for("six polls", lambda: time.monotonic() - asked > 3)
    assert clearml_server.task(task)["status"] == "queued"
    force("on")
    assert clearml_server.ends(task) == "completed"
    home.end()
    assert worker not in workers()  # it unregistered


@pytest.mark.xdist_group("clearml-agent")
def test_no_log_line_and_no_status_is_lost_when_the_server_is_killed(clearml_server: Any, home: Any) -> None:
    queue = clearml_server.queue("killed")
    home.daemon("--queue", "killed", "--cpu-only")
    count = 120
    task = clearml_server.submit(queue, f"for i in $(seq {count}); do echo number $i.; sleep 0.05; done\n")
    wait_for("the task prints", lambda: "number 10." in clearml_server.console(task))
    clearml_server.kill()
    clearml_server.start()
    wait_for("the task prints on", lambda: "number 60." in clearml_server.console(task))
    clearml_server.kill()
    clearml_server.start()
    assert clearml_server.ends(task, 120) == "completed"
    numbers = [int(n) for n in re.findall(r"number (\d+)\.", clearml_server.console(task))]
    assert numbers == list(range(1, count + 1))
