"""What waiting for work costs a supervisor as a cloud's machine has it: it speaks TLS to dispatcher and server, listens to a
Docker engine, and has run a task in a container.

The engine is one of its own, which is started and ended here; where none can be, one line says why.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from benchmarks import rig
from benchmarks.client import Client
from benchmarks.figures import line
from benchmarks.idle import GOAL_CPU_PERCENT, GOAL_RSS_MIB, SETTLE_S
from benchmarks.processes import Cost, cost
from benchmarks.rig import Centre
from tests.system import docker_engine
from tests.system.docker_engine import IMAGE, DockerEngine

WINDOW_S = 40.0
MB_A_MIB = 1.048576

FLEET_FILE = """\
listen: 127.0.0.1:0
tls: own
agent:
  mode: docker
  image: "%(image)s"
  docker: {arguments: %(arguments)s}
  environment: {CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL: "1"}
resources:
  gpu: {provider: local, gpus: 8, min_instances: 1, max_instances: 1, idle_timeout: never}
queues:
  train: {resources: [gpu], gpus: 1}
"""


def measure(is_quick: bool) -> Iterator[str]:
    if why := docker_engine.why_not():
        yield line("idle_docker.engine", 0.0, "engines", missing=why)
        return
    with docker_engine.running() as engine, rig.directory() as place:
        file = FLEET_FILE % {"image": IMAGE, "arguments": json.dumps(engine.arguments)}
        with rig.centre(place, file, {"DOCKER_HOST": engine.url}) as centre:
            before, after, seconds = _idle(engine, centre, is_quick)
    cpu_percent = 100 * (after.cpu_s - before.cpu_s) / seconds
    mb = after.rss_mib * MB_A_MIB
    yield line("idle_docker.rss", after.rss_mib, "MiB", goal=GOAL_RSS_MIB, mb=mb, uss_mib=after.uss_mib)
    yield line("idle_docker.cpu", cpu_percent, "% of a core", goal=GOAL_CPU_PERCENT, window_s=seconds)


def _idle(engine: DockerEngine, centre: Centre, is_quick: bool) -> tuple[Cost, Cost, float]:
    """A supervisor at both ends of the window, and the seconds between them."""
    client = Client(centre.access)
    rig.run_one(client, rig.queues(client, ["train"])["train"])
    rig.wait_for("its container is removed", lambda: not engine.containers())
    (instance,) = centre.instances()
    supervisor = centre.supervisor(instance.id)
    time.sleep(0 if is_quick else SETTLE_S)
    before, started_at = cost(supervisor), time.monotonic()
    time.sleep(2.0 if is_quick else WINDOW_S)
    return before, cost(supervisor), time.monotonic() - started_at
