"""What waiting for work costs a supervisor that runs tasks in containers: it has run one, and listens to a Docker engine.

The engine is one of its own, which is started and ended here; where none can be, one line says why.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from benchmarks import rig
from benchmarks.client import Client
from benchmarks.figures import line
from benchmarks.idle import GOAL_CPU_PERCENT, GOAL_RSS_MIB, SETTLE_S, SLOTS
from benchmarks.processes import Cost, cost
from fleet.assemble.centre import HEARTBEAT
from fleet.model import AgentSettings, ContainerSettings, ServerAccess
from fleet.queues.client import ClearMLServer
from tests.system import docker_engine, edge
from tests.system.docker_engine import IMAGE, DockerEngine

WINDOW_S = 40.0


def measure(is_quick: bool) -> Iterator[str]:
    if why := docker_engine.why_not():
        yield line("idle_docker.engine", 0.0, "engines", missing=why)
        return
    with docker_engine.running() as engine, rig.directory() as place, rig.server(place) as (_, access):
        os.environ["DOCKER_HOST"] = engine.url  # for all that is started from here on
        before, after, seconds = _idle(engine, access, place, is_quick)
    cpu_percent = 100 * (after.cpu_s - before.cpu_s) / seconds
    yield line("idle_docker.rss", after.rss_mib, "MiB", goal=GOAL_RSS_MIB, uss_mib=after.uss_mib)
    yield line("idle_docker.cpu", cpu_percent, "% of a core", goal=GOAL_CPU_PERCENT, window_s=seconds)


def _idle(engine: DockerEngine, access: ServerAccess, place: Path, is_quick: bool) -> tuple[Cost, Cost, float]:
    """A supervisor at both ends of the window, and the seconds between them."""
    agent = AgentSettings(
        mode="docker",
        image=IMAGE,
        docker=ContainerSettings(arguments=engine.arguments),
        environment={"CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1"},
    )
    ids = ClearMLServer(access).ensure_queues([queue.name for queue in edge.QUEUES])
    usual = {"poll_interval": timedelta(seconds=2), "heartbeat_interval": HEARTBEAT}
    machine = edge.Machine(place / "machine", access, f'{{"count": {SLOTS}}}', None, agent=agent, **usual)
    try:
        rig.run_one(Client(access), ids["train"])
        rig.wait_for("its container is removed", lambda: not engine.containers())
        time.sleep(0 if is_quick else SETTLE_S)
        before, started_at = cost(machine.process.pid), time.monotonic()
        time.sleep(2.0 if is_quick else WINDOW_S)
        return before, cost(machine.process.pid), time.monotonic() - started_at
    finally:
        machine.stop()
