"""The fleet of `fleet up` without a fleet file: this machine's own GPUs (or its CPUs), shared among a few queues."""

from __future__ import annotations

from agent_hooks.gpus import NvmlGpus
from fleet.config import Config, parse

ORIGIN = "the fleet of this workstation"
FLEET_FILE = """\
cluster: workstation
server: {{url: embedded}}
resources:
  workstation:
    provider: local
    gpus: real
    min_instances: 1
    max_instances: 1
    idle_timeout: never
queues:
  train: {{resources: [workstation], gpus: {gpus}, priority: 10}}
  default: {{resources: [workstation], gpus: {gpus}}}
  prep: {{resources: [workstation], gpus: 0}}
"""


def workstation() -> Config:
    """One long-lived instance that owns the machine; tasks of `train` and `default` get a GPU each where there is one."""
    return parse(FLEET_FILE.format(gpus=1 if NvmlGpus().read() else 0), ORIGIN)
