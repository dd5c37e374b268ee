"""The test of GPUs at boot, by real calls of CUDA's driver library: one of ours, and a real one where there is one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_hooks.acceptance import try_gpus
from agent_hooks.gpus import NvmlGpus
from tests.nvml import build, build_cuda

ROOT = Path(__file__).parents[2]
TRY = "import sys; from agent_hooks.acceptance import try_gpus; [print(f.gpu, f.code, f.severity, f.text) for f in "
TRY += "try_gpus(sys.argv[2:], float(sys.argv[1]))]"


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return build_cuda(build(tmp_path_factory.mktemp("cuda")))


def tried(library: Path | None, state: str, tmp_path: Path, time_limit_s: float = 30) -> list[str]:
    """What a machine finds whose GPUs are as `state` says."""
    (tmp_path / "state").write_text(state)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library or ""), "FAKE_NVML_STATE": str(tmp_path / "state")}
    command = [sys.executable, "-c", TRY, str(time_limit_s), "GPU-aaaa", "GPU-bbbb"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_gpus_that_give_back_what_was_written_pass(library, tmp_path):
    assert tried(library, "", tmp_path) == []


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("init", "cuInit says CUDA error 999"),
        ("wrong", "64 MiB came back from its memory other than they were written"),
    ],
)
def test_a_gpu_that_fails_is_sick_and_its_neighbour_is_not(library, tmp_path, how: str, why: str):
    text = f"it failed the test at boot ({why}); reset it or replace its machine"
    assert tried(library, f"cuda|GPU-bbbb|{how}\n", tmp_path) == [f"GPU-bbbb acceptance sick {text}"]


def test_a_gpu_that_hangs_is_given_up_at_the_time_limit(library, tmp_path):
    began = time.monotonic()
    (found,) = tried(library, "cuda|GPU-aaaa|hang\n", tmp_path, time_limit_s=3)
    assert "GPU-aaaa acceptance sick it failed the test at boot (no answer within 3 s)" in found
    assert time.monotonic() - began < 60


def test_a_gpu_whose_memory_somebody_else_has_is_not_sick(library, tmp_path):
    assert tried(library, "cuda|GPU-aaaa|full\n", tmp_path) == []


def test_a_machine_without_cuda_is_not_tried(tmp_path):
    if NvmlGpus().read():
        pytest.skip("this machine has a real NVIDIA driver")
    assert tried(None, "", tmp_path) == []


def test_a_real_gpu_passes_where_there_is_one():
    uuids = [reading.uuid for reading in NvmlGpus().read()]
    if not uuids:
        pytest.skip("no NVIDIA GPU here")
    assert try_gpus(uuids) == ()
