"""`fleet supervise --standalone`: a supervisor by a file of its machine, without a dispatcher."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path

from fleet.config import standalone
from fleet.config.standalone import RESOURCE, Standalone
from fleet.errors import ServerUnreachable
from fleet.model import Turns
from fleet.providers.local_machine import inherited
from fleet.queues.client import ClearMLServer
from fleet.supervisor.handed import hand
from fleet.wire import Enrolled

# Nobody reads them; they let the journal forget what the server knows. What changes is told at once.
HEARTBEAT = timedelta(seconds=60)
PATIENCE_S = 5.0


def run(path: Path) -> None:
    """Become the supervisor of this machine. Returns never.

    Raises:
        ConfigError: the file is wrong. ServerError: the server does not answer, or does not let us in; its text says so.
    """
    file = standalone.load(path)
    make_queues(file)
    if simulated := sim_gpus(file):
        os.environ["FLEET_SIM_GPUS"] = simulated
    arguments = hand(enrolled_by(file, socket.gethostname()))
    # A new process image: months of supervision should not carry the file's reader in memory.
    command = [sys.executable, "-m", "fleet.supervisor", *arguments]
    os.execve(sys.executable, command, without_secrets(file.variables, os.environ))


def without_secrets(named: Collection[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for the supervisor, and so for hooks, agents and tasks: what the file names as `${NAME}` is the file's to give.

    What is no secret by its name (PATH, HOME, proxies) stays, though the file may name it too.
    """
    usual = inherited(environ)
    return {key: value for key, value in environ.items() if key in usual or key not in named}


def make_queues(file: Standalone) -> None:
    """There is no dispatcher that would. Also the first word with the server: wrong keys are told here, in one line.

    Raises:
        ServerError: as `run`.
    """
    server = ClearMLServer(file.server, patience_s=PATIENCE_S)
    try:
        server.ensure_queues([queue.name for queue in file.queues])
    except ServerUnreachable as error:
        raise ServerUnreachable(f"{error}; is the server of {file.origin} (server.url) running?") from error
    finally:
        server.close()


def enrolled_by(file: Standalone, host: str) -> Enrolled:
    """What a dispatcher would have told this machine."""
    return Enrolled(
        instance=file.machine or re.sub(r"[^A-Za-z0-9_-]", "-", host.partition(".")[0]) or "machine",
        token="",
        cluster=file.cluster,
        resource=RESOURCE,
        server=file.server,
        queues=tuple(sorted(file.queues, key=lambda queue: -queue.priority)),
        agent=file.agent,
        idle_timeout=file.idle_timeout,
        poll_interval=file.poll_interval,
        heartbeat_interval=HEARTBEAT,
        contact_timeout=file.contact_timeout,
        max_lifetime=file.max_lifetime,
        min_driver=file.min_driver,
        turns=Turns(fairness=file.fairness, is_alone=True),
        keep_awake=file.keep_awake,
    )


def sim_gpus(file: Standalone) -> str | None:
    """As FLEET_SIM_GPUS has it; None: the real ones."""
    if file.gpus is None:
        return None
    given = {"model": file.gpu_model, "memory_gib": file.gpu_memory_gib}
    return json.dumps({"count": file.gpus, **{key: value for key, value in given.items() if value is not None}})
