"""A GPU fails in a whole fleet: real dispatcher, real supervisor, real agents, the real pynvml on a driver for tests."""

import importlib.util
import json
import urllib.request
from pathlib import Path

import pytest

from fleet.queues.base import TaskStatus
from tests.nvml import build
from tests.system.ring import FLEET_FILE, MakeRing
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
]

A, B = "GPU-aaaa", "GPU-bbbb"
WELL = f"{A}|NVIDIA A100|40960|0|0|40|0\n{B}|NVIDIA A100|40960|0|0|40|0\n"
FILE = FLEET_FILE.replace("gpus: {gpus}, ", "gpus: real, replace_sick: 0, ", 1)
OFF_THE_BUS = "Xid 79: it has fallen off the bus; reset it or replace its machine"


def test_a_machine_whose_gpu_breaks_is_drained_and_replaced_while_its_other_task_goes_on(
    make_ring: MakeRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "driver").mkdir()
    state = build(tmp_path / "driver") / "state"
    state.write_text(WELL)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(state.parent))
    monkeypatch.setenv("FAKE_NVML_STATE", str(state))
    ring = make_ring(gpus=2, file=FILE).start()
    gate = tmp_path / "gate"
    script = f'echo "on $CUDA_VISIBLE_DEVICES"; until [ -e {gate} ]; do sleep 0.2; done'
    tasks = [ring.bash(script), ring.bash(script)]
    on_gpu = wait_for(
        lambda: (
            (seen := {gpu: task for task in tasks for gpu in (A, B) if f"on {gpu}" in ring.console(task)})
            and len(seen) == 2
            and seen
        ),
        90,
        what="a task runs on each GPU",
    )
    (first,) = ring.instances()

    state.write_text(f"{WELL}xid|{B}|79\n")
    wait_for(lambda: ring.state_of(on_gpu[B]).status is TaskStatus.QUEUED, 30, what="it is back in its queue")
    drained = wait_for(
        lambda: (i := ring.store.instance(first.id)) and i.drain_requested_at and i, 30, what="an order to drain"
    )
    assert drained.end_reason
    assert drained.end_reason.code == "gpus_sick"
    wait_for(  # ordered, then heard: until then it may take a task for the GPU that is well
        lambda: len(ring.store.events(instance=first.id, kind="instance.draining")) == 2, 30, what="it pulls no more"
    )
    state.write_text(WELL)  # what the next machine will find

    said = json.loads(ring.fleet("status", "--json").stdout)
    assert f"GPU 1 of instance {first.id} is out of service: {OFF_THE_BUS}" in said["alerts"]
    (shown,) = said["instances"]
    assert [(gpu["uuid"], gpu.get("sick")) for gpu in shown["gpus"]] == [(A, None), (B, OFF_THE_BUS)]
    (event,) = ring.store.events(instance=first.id, kind="instance.gpu_sick")
    assert event.text == f"GPU 1 is out of service: {OFF_THE_BUS}"
    url = json.loads((ring.state / "centre.json").read_text())["url"]
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        metrics = answer.read().decode()
    assert 'fleet_gpus_sick{resource="gpu"} 1.0' in metrics
    assert f'fleet_instance_gpu_sick{{gpu="1",instance="{first.id}"}} 1.0' in metrics
    assert f'fleet_instance_cpu_usage_ratio{{instance="{first.id}"}}' in metrics

    assert ring.state_of(on_gpu[A]).status is TaskStatus.IN_PROGRESS, "healthy work is not ended"
    gate.touch()
    assert ring.ends(*tasks) == ["completed"] * 2
    (whole,) = ring.runs(on_gpu[A])
    assert (whole.instance, whole.exit_code) == (first.id, 0)
    runs = wait_for(lambda: len(found := ring.runs(on_gpu[B])) == 2 and found, what="the ledger has both runs")
    assert [run.instance == first.id for run in runs] == [True, False]
