"""Poetry in an environment of its own, made once from `poetry.lock` (pinned, hashed) and kept in the project's own."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LOCK = HERE / "poetry.lock"
ENVIRONMENT = Path(sys.prefix) / "poetry"
INSTALLED = ENVIRONMENT / ".installed"  # a copy of the lock that it was made from


def directory() -> Path:
    """Where the command is; made first, where it is not there yet.

    Raises:
        RuntimeError: it cannot be had, as without a network; the text says why.
    """
    try:
        ENVIRONMENT.mkdir(exist_ok=True)
    except OSError as error:
        raise RuntimeError(f"poetry cannot be installed: {ENVIRONMENT}: {error.strerror}") from error
    with open(ENVIRONMENT / ".making", "w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        if not INSTALLED.exists() or INSTALLED.read_bytes() != LOCK.read_bytes():
            _make()
    return ENVIRONMENT / "bin"


def _make() -> None:
    for each in ("bin", "lib", "lib64"):
        shutil.rmtree(ENVIRONMENT / each, ignore_errors=True)
    uv = [sys.executable, "-m", "uv", "--quiet"]
    python = str(ENVIRONMENT / "bin" / "python")
    for words in (
        ["venv", "--allow-existing", "--python", sys.executable, str(ENVIRONMENT)],
        ["pip", "sync", "--require-hashes", "--python", python, "--system-certs", str(LOCK)],
    ):
        done = subprocess.run([*uv, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise RuntimeError(f"poetry cannot be installed: uv {words[0]}: {why}")
    INSTALLED.write_bytes(LOCK.read_bytes())
