"""GPUs as the real pynvml tells of them, on a small driver of our own, and simulated ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_hooks.gpus import GpuProcess, GpuReading, NvmlGpus, simulated
from tests.nvml import build
from tests.waiting import PATIENCE

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
    print(json.dumps([[*sorted(pair), near] for pair, near in gpus.links().items()]), flush=True)
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
        self.links = json.loads(self.process.stdout.readline())
        return [GpuReading(**each) for each in json.loads(data)]


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def driver(library, tmp_path):
    driver = Driver(library, tmp_path / "state")
    yield driver
    driver.process.stdin.close()
    driver.process.wait(10 * PATIENCE)


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


def test_processes_are_read_with_the_memory_they_hold_where_the_driver_tells_it(driver):
    driver.read(f"{TWO}process|GPU-bbbb|7|2048\nprocess|GPU-aaaa|8|512\nprocess|GPU-bbbb|9|-\n")
    assert driver.processes == [
        GpuProcess(gpu="GPU-aaaa", pid=8, memory_gib=0.5),
        GpuProcess(gpu="GPU-bbbb", pid=7, memory_gib=2.0),
        GpuProcess(gpu="GPU-bbbb", pid=9, memory_gib=None),
    ]
    driver.read("broken")
    assert driver.processes == []


MIG = """GPU-aaaa|NVIDIA A100-SXM4-40GB|40960|87|-|31|0
mig|GPU-aaaa|MIG-1111|1g.5gb|4864|13
mig|GPU-aaaa|MIG-2222|3g.20gb|19968|2048
process|MIG-2222|12|2035
GPU-bbbb|NVIDIA A100-SXM4-40GB|40960|3|7|32|0
GPU-cccc|NVIDIA A100-SXM4-40GB|40960|3|-|33|0
migmode|GPU-cccc
"""


def test_a_gpu_in_mig_mode_is_what_it_is_divided_into(driver):
    small, large, whole = driver.read(MIG)
    assert small == GpuReading(
        index=100,
        uuid="MIG-1111",
        model="NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        memory_gib=4864 / 1024,
        memory_used_gib=13 / 1024,
        temperature_c=31,  # its GPU's
        parent="GPU-aaaa",
    )
    assert (large.index, large.uuid, large.memory_used_gib) == (101, "MIG-2222", 2.0)
    assert (whole.index, whole.uuid, whole.parent) == (1, "GPU-bbbb", None)
    assert [(p.gpu, p.pid) for p in driver.processes] == [("MIG-2222", 12)]
    assert driver.links == []  # MIG devices are joined to nothing


def test_how_near_gpus_are_to_each_other_is_read_from_nvlink_and_then_from_pcie(driver):
    gpus = "".join(f"GPU-{name}|NVIDIA A100|40960|3|7|32|0\n" for name in "abcd")
    driver.read(f"{gpus}link|GPU-a|GPU-b|nvlink\nlink|GPU-c|GPU-d|multiple\nlink|GPU-b|GPU-c|node\n")
    far = [["GPU-a", "GPU-c", 3], ["GPU-a", "GPU-d", 3], ["GPU-b", "GPU-d", 3]]
    assert sorted(driver.links) == sorted([["GPU-a", "GPU-b", 0], ["GPU-c", "GPU-d", 1], ["GPU-b", "GPU-c", 2], *far])


def test_what_the_driver_keeps_of_the_memory_for_itself_is_not_in_use(driver):
    (gpu,) = driver.read("GPU-aaaa|NVIDIA H200|143771|700|0|31|0\nreserved|GPU-aaaa|650\n")
    assert gpu.memory_used_gib == 50 / 1024


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
    assert done.stdout == b"[] False\n[]\n[]\n"


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
