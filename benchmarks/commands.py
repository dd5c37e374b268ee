"""Commands as whole processes, as their user waits for them, each beside what it cannot be quicker than."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks import rig
from benchmarks.figures import line, spread
from benchmarks.rig import BIN

HELP_GOAL_MS, STATUS_GOAL_MS = 150.0, 250.0
RUNS = 21
INSTANCES = 3

FLEET_FILE = """\
listen: 127.0.0.1:0
agent: {mode: interpreter}
resources:
  gpu: {provider: local, gpus: 4, min_instances: %d, max_instances: %d, idle_timeout: never}
queues:
  train: {resources: [gpu], gpus: 1}
"""


@dataclass(frozen=True, slots=True)
class Command:
    """A command and what its runs took."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # of its own: the machine's other work does not count

    def run(self) -> None:
        """Once.

        Raises:
            RuntimeError: it failed.
        """
        with subprocess.Popen(
            self.arguments, env=dict(self.environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            started = time.perf_counter()
            _, status, usage = os.wait4(process.pid, 0)
            self.wall_ms.append(1000 * (time.perf_counter() - started))
            self.cpu_ms.append(1000 * (usage.ru_utime + usage.ru_stime))
            process.returncode = os.waitstatus_to_exitcode(status)
            words = process.stderr.read().decode(errors="replace") if process.stderr else ""
        if process.returncode:
            raise RuntimeError(f"{' '.join(self.arguments)}: exit code {process.returncode}: {words.strip()}")


def measure(is_quick: bool) -> Iterator[str]:
    runs = 2 if is_quick else RUNS
    ours = rig.clean_environment()
    fleet_help = Command([sys.executable, "-m", "fleet", "--help"], ours)
    python = Command([sys.executable, "-c", "pass"], ours)
    agent_help = Command([str(BIN / "clearml-agent"), "--help"], ours)
    _in_turns([fleet_help, python, agent_help], runs)
    yield _line("commands.help", fleet_help, HELP_GOAL_MS, agent_help, python)
    with rig.directory() as place, rig.centre(place, FLEET_FILE % (INSTANCES, INSTANCES)) as centre:
        rig.wait_for("the instances are ready", lambda: sum(1 for i in centre.instances() if i.gpus) == INSTANCES)
        status = Command([sys.executable, "-m", "fleet", "status"], centre.environment)
        _in_turns([status], runs)
    yield _line("commands.status", status, STATUS_GOAL_MS, agent_help, python, instances=INSTANCES)


def _in_turns(commands: Sequence[Command], runs: int) -> None:
    """One after another, so that a slow moment of the machine is everybody's."""
    for command in commands:
        command.run()  # the first time, files are read and compiled
        command.wall_ms.clear()
        command.cpu_ms.clear()
    for _ in range(runs):
        for command in commands:
            command.run()


def _line(name: str, command: Command, goal: float, peer: Command, bare: Command, **more: object) -> str:
    figures = spread(command.wall_ms)
    return line(
        name,
        figures["p50"],
        "ms",
        goal=goal,
        peer=spread(peer.wall_ms)["p50"],
        peer_name="clearml-agent --help",
        bare_python_p50=spread(bare.wall_ms)["p50"],
        **figures,
        cpu_p50=spread(command.cpu_ms)["p50"],
        peer_cpu_p50=spread(peer.cpu_ms)["p50"],
        bare_python_cpu_p50=spread(bare.cpu_ms)["p50"],
        **more,
    )
