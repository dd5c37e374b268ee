"""How commands for people reach the ClearML server: by the fleet file, or by ClearML's own environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fleet.assemble.encrypted import authority_of
from fleet.assemble.state import access_from, state_of
from fleet.config import Config, Embedded, default_path, load
from fleet.config.resources import gpus_of
from fleet.errors import ConfigError
from fleet.model import GpuNeed, ServerAccess
from fleet.queues.base import Desk
from fleet.queues.client import ClearMLServer

VARIABLES = ("CLEARML_API_HOST", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")


# People rather hear at once that nobody answers; supervisors and dispatcher are patient.
PATIENCE_S = 2.0


def desk(config: Path | None) -> Desk:
    """The server as `fleet submit` and `fleet logs` see it.

    Raises:
        ConfigError: nothing says where the server is.
    """
    return ClearMLServer(find_access(config), patience_s=PATIENCE_S)


def doubts(config: Path | None, queue: str, need: GpuNeed | None) -> Iterator[str]:
    """Why a task may wait for ever in this queue with this need (None: the queue's own), as far as the fleet file tells."""
    path = config or default_path()
    fleet = load(path) if path.exists() else None
    if fleet is None:
        return
    known = {q.name: q for q in fleet.queues}
    if queue not in known:
        yield f"queue {queue} is not in {path}: no machine of this fleet serves it"
        return
    wanted = (need or known[queue].need).at_least
    mine = [r for r in fleet.resources if r.name in known[queue].resources]
    sizes = [gpus_of(r) for r in mine]
    most = max((size for size in sizes if size is not None), default=0)
    if None not in sizes and most < wanted:
        names = ", ".join(r.name for r in mine)
        yield f"it needs {wanted:g} GPUs; the largest resource of queue {queue} ({names}) has {most}: it will wait for ever"


def find_access(config: Path | None) -> ServerAccess:
    """The fleet file's server if there is a fleet file, else CLEARML_API_*, else the one that runs here for this user."""
    if config or default_path().exists():
        return access_of(load(config or default_path()), "user")
    host, access_key, secret_key = (os.environ.get(name) for name in VARIABLES)
    if host and access_key and secret_key:
        return ServerAccess(
            api_url=host.rstrip("/"),
            web_url=os.environ.get("CLEARML_WEB_HOST", host),
            files_url=os.environ.get("CLEARML_FILES_HOST", host),
            access_key=access_key,
            secret_key=secret_key,
        )
    from fleet.assemble.workstation import workstation

    here = workstation()
    if state_of(here).credentials_file.exists():
        return access_of(here, "user")
    raise ConfigError(
        f"no server is known: there is no {default_path()}, {VARIABLES[0]} and its keys are not set, and no `fleet up` "
        "has run here; start one, or name a fleet file with --config"
    )


def access_of(config: Config, who: str) -> ServerAccess:
    """The server of a fleet file, as `who` ("fleet" or "user"; the same for a server that is not ours).

    Raises:
        ConfigError: the embedded server has never been started.
    """
    if not isinstance(config.server, Embedded):
        return config.server
    state = state_of(config)
    pairs = state.credentials()
    if pairs is None:
        raise ConfigError(
            f"the embedded server of cluster {config.cluster} has never run here; start it with `fleet up`, "
            "`fleet dispatch` or `fleet server`"
        )
    running = state.running()
    url = running["server_url"] if running else config.advertise_url
    is_here = config.server.advertise_url == config.advertise_url
    return access_from(pairs, url, who, authority_of(config) if is_here else None)
