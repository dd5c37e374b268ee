"""A driver (NVML) for tests, which says what a file says: see `state.h`, and one C file for each subject beside it."""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent


def build(directory: Path) -> Path:
    """The directory that LD_LIBRARY_PATH has to name; skips the test where nothing can be compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): the NVML shim cannot be built")
    target = directory / "libnvidia-ml.so.1"
    sources = sorted(SOURCES.glob("*.c"))
    command = [compiler, "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-soname,libnvidia-ml.so.1", "-o", target]
    subprocess.run([*command, *sources], check=True)
    return directory


def build_cuda(directory: Path) -> Path:
    """The same directory, with a CUDA driver library in it: see `cuda/cuda.c`."""
    target = directory / "libcuda.so.1"
    sources = [SOURCES / "cuda" / "cuda.c", SOURCES / "state.c"]
    subprocess.run(["cc", "-shared", "-fPIC", "-fvisibility=hidden", "-o", target, *sources], check=True)
    return directory
