"""Make the peers' environment from PyPI: pinned, hashed, 200 MB. Done already: nothing happens. Exit code 1: it cannot be had."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv

from benchmarks.peers import ENVIRONMENT, HOW, INSTALLED, LOCK, python


def main() -> int:
    if python() is not None:
        return 0
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    # No second try: without a network the answer should come at once.
    done = subprocess.run(
        [*pip, "--retries", "0", "--require-hashes", "-r", str(LOCK)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        print(f"the peers cannot be installed: {why}; with a network: {HOW}", file=sys.stderr)
        return 1
    INSTALLED.write_bytes(LOCK.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
