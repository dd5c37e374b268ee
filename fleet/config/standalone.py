"""The file of a machine without a dispatcher: what of a fleet file concerns one machine, at its top level.

It is read with the base install: as TOML or JSON by Python itself, as YAML where PyYAML is there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from fleet.config.agent import read_agent
from fleet.config.file import lines, read_access, read_cluster, read_poll_interval, read_queue, text_of
from fleet.config.formats import plain
from fleet.config.noting import Noting
from fleet.config.quantities import duration, memory_gib
from fleet.config.resources import read_driver, read_gpus, read_keep_awake, read_lifetime
from fleet.config.section import Section
from fleet.errors import ConfigError
from fleet.model import AgentSettings, Fairness, KeepAwake, Queue, ServerAccess

RESOURCE = "standalone"  # the middle of its workers' names: <cluster>:standalone:<machine>
MACHINE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62})")
HOW_TO = 'write it: docs/configuration.md, "A machine without a dispatcher", shows a whole one'
# Half of what ClearML's own server waits before it calls a silent task dead: nobody else gives tasks away here.
CONTACT_TIMEOUT, SHORTEST_CONTACT_TIMEOUT = timedelta(hours=1), timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standalone:
    """A whole file."""

    origin: str
    cluster: str
    machine: str | None  # its name; None: its host name
    server: ServerAccess
    agent: AgentSettings
    queues: tuple[Queue, ...]
    gpus: int | None  # so many simulated ones; None: the real ones
    gpu_model: str | None
    gpu_memory_gib: float | None
    fairness: Fairness
    idle_timeout: timedelta | None  # None: never
    keep_awake: KeepAwake
    max_lifetime: timedelta | None
    min_driver: str | None
    poll_interval: timedelta
    contact_timeout: timedelta  # without an answer of the server so long: end the tasks
    variables: frozenset[str] = frozenset()  # of the environment, that values of the file were read from


def load(path: Path) -> Standalone:
    """Read and check it.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; `problems` names everything.
    """
    return parse(text_of(path, HOW_TO), str(path))


def parse(text: str, origin: str, environment: Mapping[str, str] | None = None) -> Standalone:
    """As `load`, of a text; its form by the end of `origin`.

    Raises:
        ConfigError: as `load`.
    """
    data, problems = plain(text, origin, "cluster, server and queues (see docs/configuration.md)")
    noting = Noting(os.environ if environment is None else environment)
    found = _read(Section(data, "", problems, noting), origin)
    if problems:
        raise ConfigError(*lines(origin, problems))
    return replace(found, variables=frozenset(noting.names))


def _read(top: Section, origin: str) -> Standalone:
    top.require("server", "queues")
    if top.has("resources"):
        top.wrong(
            "resources", "is of a fleet with a dispatcher; of this one machine say gpus and idle_timeout themselves"
        )
    top.anything("resources")
    found = Standalone(
        origin=origin,
        cluster=read_cluster(top),
        machine=top.read("machine", _machine, None),
        server=_server(top),
        agent=read_agent(top.section("agent")),
        queues=tuple(read_queue(name, part, RESOURCE) for name, part in top.sections("queues")),
        gpus=top.read("gpus", _gpus, None),
        gpu_model=top.text("gpu_model", None),
        gpu_memory_gib=top.positive("gpu_memory", memory_gib, None),
        fairness=top.choice("fairness", Fairness, Fairness.PRIORITY),
        idle_timeout=top.read("idle_timeout", _idle_timeout, None),
        keep_awake=read_keep_awake(top.section("keep_awake")),
        max_lifetime=top.read("max_lifetime", read_lifetime, None),
        min_driver=top.read("min_driver", read_driver, None),
        poll_interval=top.read("poll_interval", read_poll_interval, timedelta(seconds=2)),
        contact_timeout=top.read("contact_timeout", _contact_timeout, CONTACT_TIMEOUT),
    )
    if top.has("queues") and not found.queues:
        top.wrong("queues", "names none")
    top.no_more()
    return found


def _server(top: Section) -> ServerAccess:
    """The embedded one is a process of its own here."""
    is_embedded = top.anything("server") == "embedded"
    part = Section({}, "server", []) if is_embedded else top.section("server")
    where = part.value("url", "embedded" if is_embedded else "")
    if where in ("embedded", ""):
        top.wrong(
            "server", "expected {url: ..., access_key: ..., secret_key: ...} (fleet server is a process of its own)"
        )
        return ServerAccess(api_url="", files_url="", web_url="", access_key="", secret_key="")
    return read_access(part, where)


def _gpus(value: object) -> int | None:
    gpus = read_gpus(value)
    return gpus if isinstance(gpus, int) else None


def _machine(value: object) -> str:
    if not isinstance(value, str) or not MACHINE.fullmatch(value):
        raise ValueError("expected letters, digits, - _ and ., 63 at most (it becomes a part of workers' names)")
    return value


def _idle_timeout(value: object) -> timedelta | None:
    return None if value == "never" else duration(value)


def _contact_timeout(value: object) -> timedelta:
    timeout = duration(value)
    if timeout < SHORTEST_CONTACT_TIMEOUT:
        raise ValueError("must be 30s or more: a server that is restarted must not cost a task")
    return timeout
