"""A driver (NVML) for tests, which says what a file says: see `agent_hooks/nvshim.c`."""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "agent_hooks" / "nvshim.c"


def build(directory: Path) -> Path:
    """The directory that LD_LIBRARY_PATH has to name; skips the test where nothing can be compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): the NVML shim cannot be built")
    target = directory / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", target, SOURCE], check=True)
    return directory
