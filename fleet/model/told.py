"""What supervisors are told at enrolment about agents and the ClearML server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from fleet.model.notice import OnRebalance


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSettings:
    """How agents run in containers, with mode docker."""

    network: str = "host"  # host, bridge or none, where the task does not say
    shm_gib: float = 8.0  # /dev/shm, through which data loaders pass batches; the engine's own 64 MiB are too few
    arguments: str = ""  # as for `docker run`; those of the task come after them
    cache: str | None = None  # directory of pip, git and environment caches; None = in the supervisor's own
    prune_above: float = 0.85  # of the engine's disk in use: from there on unused images of tasks are removed


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How a supervisor runs agents; the same for every task of a resource."""

    mode: str = "venv"  # venv: build an environment for each task; interpreter: use `python` as it is; docker
    image: str | None = None  # of tasks that name none, with mode docker
    docker: ContainerSettings = field(default_factory=ContainerSettings)
    python: str | None = None  # the interpreter of the tasks; None = the agent's own
    version: str | None = None  # of clearml-agent; None = the one installed beside the supervisor
    package_manager: str | None = None  # of mode venv: pip, conda, poetry or uv; None = the agent's own choice
    init_script: str = field(default="", repr=False)  # bash, once before the first task
    extra_conf: str = field(default="", repr=False)  # appended to the agent's clearml.conf; may hold credentials
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stop_grace: timedelta = timedelta(seconds=10)  # between SIGTERM and SIGKILL
    # Of a GPU that is free less memory is in use, beside what the driver keeps for itself.
    gpu_free_below_gib: float = 1.0
    on_rebalance: OnRebalance = OnRebalance.DRAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAwake:
    """What, besides tasks, keeps an idle machine from ending. It stops neither an order nor the longest life."""

    ssh: bool = False  # somebody is logged in, or connected to the SSH server
    gpu_percent: float | None = None  # others use so much of a GPU's time or memory, or more
    keep_alive: timedelta | None = (
        None  # so long after it was touched the file `/run/fleet/keep-alive` holds the machine
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccess:
    """Where a ClearML API server is and how to be let in. The secret never goes to a log or an argument list."""

    api_url: str
    files_url: str
    web_url: str
    access_key: str
    secret_key: str = field(repr=False)
    # Certificate (PEM) of whoever vouches for it, where no public authority does.
    authority: str | None = field(default=None, repr=False)
