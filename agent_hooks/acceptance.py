"""Whether the GPUs of this machine compute, tried once at boot: each gets memory, writes it and reads it back.

Each GPU is tried by a process of its own, with a time limit, because a broken one may hang or kill whoever touches it.
CUDA's driver library is called as it is (`libcuda.so.1`, CUDA Driver API); where it is not there nothing is tried.
`python -m agent_hooks.acceptance`: the trial of the first GPU that is visible. Exit 0: it computes, 3: no library.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from agent_hooks.health import Finding, Severity

LIBRARY = "libcuda.so.1"
NO_LIBRARY = 3
TRIED_BYTES = 64 * 1024**2
PATTERN = 0x5AA5C33C
TIME_LIMIT_S = 60.0  # the first use of eight large GPUs after boot takes ten seconds
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY: somebody else has it, and that is no fault of the GPU


class TrialFailed(Exception):
    """This GPU does not do what it is there for; the text says which call failed and how."""


def try_gpus(uuids: Sequence[str], time_limit_s: float = TIME_LIMIT_S) -> tuple[Finding, ...]:
    """Try these GPUs, all at once; what failed. Blocks up to the time limit. Nothing where CUDA is not installed."""
    if not uuids or not _has_library():
        return ()
    tried = {uuid: _start(uuid) for uuid in uuids}
    deadline = time.monotonic() + time_limit_s
    found = (_outcome(uuid, process, deadline, time_limit_s) for uuid, process in tried.items())
    return tuple(finding for finding in found if finding)


def _has_library() -> bool:
    """Without opening it: the supervisor shall not carry CUDA in its memory."""
    code = f"import ctypes; ctypes.CDLL({LIBRARY!r})"
    done = subprocess.run([sys.executable, "-S", "-c", code], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def _start(uuid: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent_hooks.acceptance"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": uuid},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _outcome(uuid: str, process: subprocess.Popen[str], deadline: float, limit_s: float) -> Finding | None:
    try:
        code = process.wait(max(deadline - time.monotonic(), 0.1))  # what it says fits into the pipe
        said, _ = process.communicate()
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        said, code = f"no answer within {limit_s:g} s", -1
    if code in (0, NO_LIBRARY):
        return None
    why = said.strip().splitlines()[-1] if said.strip() else f"its trial ended with {code}"
    text = f"it failed the test at boot ({why}); reset it or replace its machine"
    return Finding(gpu=uuid, code="acceptance", severity=Severity.SICK, text=text)


def main() -> int:
    """Try the first visible GPU; the exit status."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError:
        return NO_LIBRARY
    try:
        _try_memory(cuda)
    except TrialFailed as error:
        print(error)
        return 1
    return 0


def _try_memory(cuda: ctypes.CDLL) -> None:
    """Write a pattern into memory of the GPU, and read it back.

    Raises:
        TrialFailed: a call was refused, or what came back is not what was written.
    """
    device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    words = TRIED_BYTES // 4
    back = (ctypes.c_uint32 * words)()
    _call(cuda, "cuInit", ctypes.c_uint(0))
    _call(cuda, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    _call(cuda, "cuCtxCreate_v2", ctypes.byref(context), ctypes.c_uint(0), device)
    if not _call(cuda, "cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(TRIED_BYTES), borne=OUT_OF_MEMORY):
        return
    _call(cuda, "cuMemsetD32_v2", memory, ctypes.c_uint(PATTERN), ctypes.c_size_t(words))
    _call(cuda, "cuMemcpyDtoH_v2", back, memory, ctypes.c_size_t(TRIED_BYTES))
    if bytes(back) != PATTERN.to_bytes(4, sys.byteorder) * words:
        raise TrialFailed(f"{TRIED_BYTES // 1024**2} MiB came back from its memory other than they were written")
    _call(cuda, "cuMemFree_v2", memory)
    _call(cuda, "cuCtxDestroy_v2", context)


def _call(cuda: ctypes.CDLL, name: str, *arguments: object, borne: int = 0) -> bool:
    """True: done; False: it failed as may be borne."""
    code: int = getattr(cuda, name)(*arguments)
    if code not in (0, borne):
        raise TrialFailed(f"{name} says CUDA error {code}")
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
