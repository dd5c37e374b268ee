"""GPUs as a driver shows them, a real supervisor, real agents: which task gets which, and when none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fleet.model import GpuNeed, Queue
from fleet.queues.base import TaskStatus
from tests.nvml import build
from tests.system.edge import CLUSTER
from tests.system.test_edge import pytestmark  # noqa: F401
from tests.waiting import wait_for

A10 = "GPU-{}|NVIDIA A10|24576|300|0|37|0\n"
HOLD = "echo devices=$CUDA_VISIBLE_DEVICES; until [ -e {} ]; do sleep 0.1; done\n"


def a_driver(directory: Path, text: str) -> Path:
    driver = build(directory)
    (driver / "state").write_text(text)
    return driver


def test_a_task_of_two_gpus_gets_two_that_nvlink_joins(machine, clearml, tmp_path):
    links = "link|GPU-a|GPU-c|nvlink\nlink|GPU-b|GPU-d|nvlink\n"
    task = clearml.submit("big", "echo devices=$CUDA_VISIBLE_DEVICES\n")
    machine(name="nvml", driver=a_driver(tmp_path, "".join(A10.format(name) for name in "abcd") + links))
    assert clearml.ended(task) == TaskStatus.COMPLETED
    assert "devices=GPU-a,GPU-c\n" in clearml.log(task)


def test_mig_devices_are_given_to_one_task_each_and_none_to_a_task_of_two_gpus(machine, clearml, tmp_path):
    gate = tmp_path / "gate"
    text = """GPU-a|NVIDIA A100-SXM4-40GB|40960|87|-|31|0
mig|GPU-a|MIG-1|1g.5gb|4864|13
mig|GPU-a|MIG-2|1g.5gb|4864|13
"""
    two = clearml.submit("big", "echo never here\n")
    tasks = [clearml.submit("train", HOLD.format(gate)) for _ in range(2)]
    here = machine(name="nvml", driver=a_driver(tmp_path, text))
    wait_for(lambda: len(here.centre.heartbeats[-1].allocations) == 2 and len(here.agents()) >= 2, 20)
    assert sorted(a.gpus for a in here.centre.heartbeats[-1].allocations) == [("MIG-1",), ("MIG-2",)]
    workers = sorted(a.worker for a in here.centre.heartbeats[-1].allocations)
    assert workers == [f"{CLUSTER}:lab:nvml:gpu100", f"{CLUSTER}:lab:nvml:gpu101"]
    gate.touch()
    assert {clearml.ended(task) for task in tasks} == {TaskStatus.COMPLETED}
    assert {clearml.log(task).partition("devices=")[2][:6] for task in tasks} == {"MIG-1\n", "MIG-2\n"}
    assert clearml.status(two) == TaskStatus.QUEUED
    clearml.abort(two)


def test_a_gpu_on_which_somebody_else_computes_is_set_aside_until_he_ends(machine, clearml, tmp_path):
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        gpus = A10.format("a") + A10.format("b")
        driver = a_driver(tmp_path, f"{gpus}process|GPU-a|{stranger.pid}|2048\n")
        gate = tmp_path / "gate"
        first, second = (clearml.submit("train", HOLD.format(gate)) for _ in range(2))
        here = machine(name="nvml", driver=driver)
        wait_for(here.agents, 20, "a task runs")
        assert wait_for(lambda: "devices=GPU-b\n" in clearml.log(first) + clearml.log(second), 20)

        def why() -> str:
            (gpu,) = [gpu for gpu in here.centre.heartbeats[-1].gpus if gpu.uuid == "GPU-a"]
            return gpu.set_aside.text if gpu.set_aside else ""

        wait_for(why, 10, "the dispatcher hears of it")
        assert f"processes that are no task's compute on it (pid {stranger.pid})" in why()
        assert len(here.centre.heartbeats[-1].allocations) == 1
        stranger.communicate(b"\n")
        (driver / "state").write_text(gpus)
        wait_for(lambda: len(here.centre.heartbeats[-1].allocations) == 2, 20, "the other task gets the GPU")
        assert why() == ""
        gate.touch()
        assert {clearml.ended(task) for task in (first, second)} == {TaskStatus.COMPLETED}
    finally:
        stranger.kill()
        stranger.wait()


def test_services_run_as_many_at_once_as_their_queue_has_slots_and_see_no_gpu(machine, clearml, tmp_path):
    gate = tmp_path / "gate"
    none = GpuNeed(at_least=0, at_most=0)
    queues = (
        Queue(name="services", resources=("lab",), need=none, slots=3),
        Queue(name="train", resources=("lab",), need=GpuNeed(at_least=1, at_most=1)),
    )
    clearml.client.ensure_queues(["services"])
    services = [clearml.submit("services", HOLD.format(gate)) for _ in range(4)]
    train = clearml.submit("train", HOLD.format(gate))
    here = machine('{"count": 1}', name="nvml", queues=queues)
    wait_for(lambda: len(here.centre.heartbeats[-1].allocations) == 4, 30, "three services and a task of a GPU run")
    held = here.centre.heartbeats[-1].allocations
    assert sorted((a.queue, a.worker) for a in held) == [
        ("services", f"{CLUSTER}:lab:nvml:cpu:0"),
        ("services", f"{CLUSTER}:lab:nvml:cpu:1"),
        ("services", f"{CLUSTER}:lab:nvml:cpu:2"),
        ("train", f"{CLUSTER}:lab:nvml:gpu0"),
    ]
    wait_for(
        lambda: [clearml.status(task) for task in services].count(TaskStatus.QUEUED) == 1, 10, "three have started"
    )
    gate.touch()
    assert {clearml.ended(task) for task in (*services, train)} == {TaskStatus.COMPLETED}
    assert all("devices=none\n" in clearml.log(task) for task in services)
