"""GPUs as the real pynvml tells of them, on a small driver of our own, and simulated ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_hooks.gpus import GpuProcess, GpuReading, NvmlGpus, simulated
from tests.nvml import build

ROOT = Path(__file__).parents[2]
TWO = """GPU-aaaa|NVIDIA A10|23028|1024|37|61|0
GPU-bbbb|NVIDIA H100 80GB HBM3|81559|0|-|40|0
"""
# Reads once for each line of its input, so that a test can change the driver's state in between.
READER = """
import sys, dataclasses, json
from agent_hooks.gpus import NvmlGpus
gpus = NvmlGpus()
for _ in sys.stdin:
    print(json.dumps([dataclasses.asdict(g) for g in gpus.read()]), 'pynvml' in sys.modules, flush=True)
    print(json.dumps([dataclasses.asdict(p) for p in gpus.processes()]), flush=True)
"""


class Driver:
    """A process that reads GPUs through the shim, and the file that says what there is."""

    def __init__(self, library: Path, state: Path) -> None:
        self.state = state
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_STATE": str(state)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER], env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def read(self, text: str) -> list[GpuReading]:
        self.state.write_text(text)
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        data, _ = self.process.stdout.readline().decode().rsplit(" ", 1)
        self.processes = [GpuProcess(**each) for each in json.loads(self.process.stdout.readline())]
        return [GpuReading(**each) for each in json.loads(data)]


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def driver(library, tmp_path):
    driver = Driver(library, tmp_path / "state")
    yield driver
    driver.process.stdin.close()
    driver.process.wait(10)


def test_gpus_are_read_through_pynvml(driver):
    a10, h100 = driver.read(TWO)
    assert a10 == GpuReading(
        index=0,
        uuid="GPU-aaaa",
        model="NVIDIA A10",
        memory_gib=23028 / 1024,
        util=37,
        memory_used_gib=1.0,
        temperature_c=61,
    )
    assert (h100.index, h100.util, h100.temperature_c) == (1, None, 40)  # it does not tell how busy it is


def test_the_memory_that_processes_hold_is_read_where_the_driver_tells_it(driver):
    driver.read(f"{TWO}process|GPU-bbbb|7|2048\nprocess|GPU-aaaa|8|512\nprocess|GPU-bbbb|9|-\n")
    assert driver.processes == [
        GpuProcess(gpu="GPU-aaaa", pid=8, memory_gib=0.5),
        GpuProcess(gpu="GPU-bbbb", pid=7, memory_gib=2.0),
    ]
    driver.read("broken")
    assert driver.processes == []


def test_a_gpu_that_is_lost_is_missing_and_the_others_keep_their_index(driver):
    assert [g.index for g in driver.read(TWO)] == [0, 1]
    assert [(g.index, g.uuid) for g in driver.read(TWO.replace("|61|0", "|61|1"))] == [(1, "GPU-bbbb")]


def test_a_driver_that_loads_late_or_breaks_is_found_again(driver):
    assert driver.read("broken") == []
    assert len(driver.read(TWO)) == 2
    assert driver.read("broken") == []
    assert len(driver.read(TWO)) == 2


def test_a_machine_without_a_driver_has_no_gpus_and_does_not_load_pynvml():
    environment = {**os.environ, "LD_LIBRARY_PATH": ""}
    code = "import ctypes; ctypes.CDLL('libnvidia-ml.so.1')"
    if subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False).returncode == 0:
        pytest.skip("this machine has a real NVIDIA driver")
    done = subprocess.run(
        [sys.executable, "-c", READER], env=environment, cwd=ROOT, input=b"\n", capture_output=True, check=True
    )
    assert done.stdout == b"[] False\n[]\n"


def test_a_real_gpu_is_read_where_there_is_one():
    readings = NvmlGpus().read()
    if not readings:
        pytest.skip("no NVIDIA GPU here")
    smi = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    told = subprocess.run(smi, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [f"{r.index}, {r.uuid}, {r.model}, {round(r.memory_gib * 1024)}" for r in readings] == told
    assert all(r.temperature_c and r.util is not None for r in readings)


def test_simulated_gpus_are_counted_or_listed():
    counted = simulated('{"count": 2, "model": "A10", "memory_gib": 24}', owner="i-1").read()
    assert [(g.index, g.uuid, g.model, g.memory_gib) for g in counted] == [
        (0, "GPU-sim-i-1-0", "A10", 24),
        (1, "GPU-sim-i-1-1", "A10", 24),
    ]
    (listed,) = simulated('[{"uuid": "GPU-x", "model": "H100", "memory_gib": 80}]').read()
    assert (listed.uuid, listed.model) == ("GPU-x", "H100")
    assert simulated("[]").read() == ()


@pytest.mark.parametrize("spec", ["four", "4", '"x"', "[4]", '{"count": "many"}', '[{"memory_gib": "much"}]'])
def test_a_spec_that_cannot_be_read_says_what_to_write(spec: str):
    with pytest.raises(ValueError, match=r'cannot read .*; write \[\{"model": "A10", "memory_gib": 24\}'):
        simulated(spec)
