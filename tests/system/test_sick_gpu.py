"""A GPU fails while a task runs on it: real supervisor, real agent, real SDK, the real pynvml on a driver for tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fleet.model import Run, RunResult
from fleet.queues.base import TaskStatus
from tests.nvml import build, build_cuda
from tests.system.edge import QUEUES
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("edge"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
]

A, B = "GPU-aaaa", "GPU-bbbb"
TWO = f"{A}|NVIDIA A100|40960|0|0|40|0\n{B}|NVIDIA A100|40960|0|0|40|0\npower|{A}|215\n"
WAITS = "echo on $CUDA_VISIBLE_DEVICES; until [ -e {gate} ]; do sleep 0.1; done\n"
# As a training script dies when its GPU does: the SDK says that it failed, which its user never wanted.
DIES = """
import os
from clearml import Task
Task.init("tests", "dies", reuse_last_task_id=False)
if os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb":
    with open(os.environ["FAKE_NVML_STATE"], "a") as driver:
        driver.write("xid|GPU-bbbb|79\\n")
    raise RuntimeError("CUDA error: unspecified launch failure")
print("computed on", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
"""


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    (tmp_path / "driver").mkdir()
    directory = build(tmp_path / "driver")
    (directory / "state").write_text(TWO)
    return directory


def fail(driver: Path, line: str) -> None:
    with (driver / "state").open("a") as state:
        state.write(f"{line}\n")


def runs(here, task: str) -> list[Run]:
    """As the dispatcher knows them."""
    return sorted(here.centre.runs.get(task, []), key=lambda run: run.claimed_at)


def test_a_task_whose_gpu_falls_off_the_bus_is_first_in_its_queue_again_and_completes_on_another(
    machine, clearml, driver, tmp_path, monkeypatch
):
    gate, metrics = tmp_path / "gate", tmp_path / "fleet.prom"
    monkeypatch.setenv("FLEET_METRICS_FILE", str(metrics))
    first, second, third = (clearml.submit("train", WAITS.format(gate=gate)) for _ in range(3))
    here = machine(driver=driver)
    wait_for(lambda: f"on {B}" in clearml.log(second), 30, "a task runs on each GPU")
    wait_for(metrics.exists, 10)
    assert 'fleet_gpu_power_watts{gpu="0",uuid="GPU-aaaa",model="NVIDIA A100"} 215' in metrics.read_text()

    fail(driver, f"xid|{B}|31")  # the fault of a program: nothing happens
    warning = "Xid 31: GPU memory page fault, most often an access out of bounds"
    wait_for(lambda: here.centre.heartbeats[-1].gpus[1].warning == warning, 10)
    assert clearml.status(second) == TaskStatus.IN_PROGRESS

    fail(driver, f"xid|{B}|79")
    wait_for(lambda: clearml.status(second) == TaskStatus.QUEUED, 10, "it is back in its queue")
    a, b = wait_for(lambda: (gpus := here.centre.heartbeats[-1].gpus)[1].sick and gpus, 10)
    assert (a.sick, b.sick) == (None, "Xid 79: it has fallen off the bus; reset it or replace its machine")
    assert (a.power_w, b.power_w) == (215, None)
    assert "### fleet: stopped: a GPU that it holds is sick: Xid 79" in clearml.log(second)
    wait_for(lambda: f'fleet_gpu_sick{{uuid="{B}"}} 1' in metrics.read_text(), 10)

    def waiting() -> list[str]:
        return [task.id for task in clearml.client.waiting(QUEUES) if task.id in (second, third)]

    # It is enqueued and then put first: two calls of ClearML's API.
    wait_for(lambda: waiting() == [second, third], 10, "it is first in its queue")
    gate.touch()
    assert {clearml.ended(task) for task in (first, second, third)} == {TaskStatus.COMPLETED}
    wait_for(lambda: all(runs(here, task)[-1:] and runs(here, task)[-1].result for task in (second, third)), 10)
    assert [(run.gpus, run.result) for run in runs(here, second)] == [
        ((B,), RunResult.REQUEUED),
        ((A,), RunResult.COMPLETED),
    ]
    (later,) = runs(here, third)
    assert later.gpus == (A,)


def test_a_script_that_died_of_its_gpu_and_said_that_it_failed_goes_back_all_the_same(
    machine, clearml, driver, tmp_path
):
    pytest.importorskip("clearml")
    gate = tmp_path / "gate"
    first = clearml.submit("train", WAITS.format(gate=gate))
    here = machine(driver=driver)
    wait_for(lambda: f"on {A}" in clearml.log(first), 30)
    dies = clearml.submit("train", DIES, "python3")
    wait_for(lambda: [run for run in runs(here, dies) if run.result], 60, "its first attempt is over")
    assert clearml.status(dies) == TaskStatus.QUEUED
    gate.touch()
    assert clearml.ended(dies) == TaskStatus.COMPLETED
    assert "computed on GPU-aaaa" in clearml.log(dies)
    wait_for(lambda: len([run for run in runs(here, dies) if run.result]) == 2, 10)
    assert [run.result for run in runs(here, dies)] == [RunResult.REQUEUED, RunResult.COMPLETED]


def test_a_gpu_that_fails_the_test_at_boot_gets_no_work(machine, clearml, driver):
    build_cuda(driver)
    fail(driver, f"cuda|{A}|wrong")
    task = clearml.submit("train", "echo on $CUDA_VISIBLE_DEVICES\n")
    here = machine(driver=driver)
    assert clearml.ended(task) == TaskStatus.COMPLETED
    assert f"on {B}" in clearml.log(task)
    why = here.centre.heartbeats[-1].gpus[0].sick
    assert why.startswith("it failed the test at boot (64 MiB came back")
