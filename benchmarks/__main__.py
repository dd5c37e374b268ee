"""`python -m benchmarks [--quick] [names...]`: each measurement in a process of its own, so that none disturbs another.

Exit code 1 if one failed; the others are measured all the same.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import MOST_TASKS, TASKS, TASKS_VARIABLE

NAMES = (
    *("commands", "launch", "start", "idle", "idle_docker", "notice", "churn", "server", "planner", "dispatcher"),
    *("simulation", "quality", "schedulers", "money", "spot"),
)
LIMIT_S = 180.0  # of one measurement
LONGER_LIMIT_S = {
    "churn": 5400.0,
    "simulation": 600.0,
    "quality": 600.0,
    "schedulers": 600.0,
    "money": 1800.0,
    "spot": 600.0,
}
TIDY_UP_S = 90.0  # for its processes, after Ctrl-C: longer than any wait of `rig`


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure; one JSON object a line.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="few samples: shows that it works, not how fast it is")
    parser.add_argument("--tasks", type=int, metavar="N", help=f"of churn; without it {TASKS}")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this very process
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.tasks is not None:
        if not 1 <= options.tasks <= MOST_TASKS:
            parser.error(f"--tasks: 1 to {MOST_TASKS}, got {options.tasks}")
        os.environ[TASKS_VARIABLE] = str(options.tasks)
    if options.here:
        for name in options.names:
            for line in importlib.import_module(f"benchmarks.{name}").measure(options.quick):
                print(line, flush=True)
        return 0
    print(_machine(), flush=True)
    return max([_run(name, options.quick) for name in options.names or NAMES])


def _run(name: str, is_quick: bool) -> int:
    """0, or 1 and a line with the error."""
    limit_s = LONGER_LIMIT_S.get(name, LIMIT_S)
    command = [sys.executable, "-m", "benchmarks", "--here", name, *(["--quick"] if is_quick else [])]
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=words)
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(TIDY_UP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            status, error = 1, f"not done after {limit_s:g} s"
        else:
            words.seek(0)
            error = (words.read().strip().splitlines() or ["it said nothing"])[-1]
    if status:
        print(json.dumps({"name": name, "error": error}), flush=True)
    return 1 if status else 0


def _machine() -> str:
    """The first line: on what it was measured, and how busy that was with other things."""
    cores = len(os.sched_getaffinity(0))
    version = ".".join(str(part) for part in sys.version_info[:3])
    load = round(os.getloadavg()[0], 2)
    return json.dumps({"name": "machine", "value": cores, "unit": "cores", "python": version, "load": load})


if __name__ == "__main__":
    sys.exit(main())
