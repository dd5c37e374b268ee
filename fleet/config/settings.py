"""What a fleet file says, read and checked: `Config`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from fleet.model import AgentSettings, Budget, Fairness, Queue, Resource, ServerAccess


class OnShutdown(StrEnum):
    """What becomes of the machines when `fleet dispatch` is told to end."""

    NOTHING = "nothing"  # they go on, and the next dispatcher finds them
    IDLE = "idle"  # those without a task end
    ALL = "all"  # all end; what ran goes back to its queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen."""

    host: str
    port: int  # 0 = any free one
    is_tls: bool = False

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def is_any(self) -> bool:
        return self.host in ("0.0.0.0", "::")

    @property
    def url(self) -> str:
        """How this machine itself reaches it."""
        host = "127.0.0.1" if self.is_any else self.host
        scheme = "https" if self.is_tls else "http"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whose certificate the centre shows: its own, the one in these files, or (neither) none."""

    is_own: bool = False
    certificate: Path | None = None  # with its chain
    key: Path | None = None
    authority: Path | None = None  # for machines that do not trust it already

    @property
    def is_on(self) -> bool:
        return self.is_own or self.certificate is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """How machines prove who they are, where their cloud can say so."""

    is_required: bool = True
    aws_certificates: Path | None = None  # PEM, Amazon's published ones; None: documents of EC2 are not checked
    aws_account: str | None = None  # None: any
    google_keys: str | None = None  # a URL; None: Google's own
    token_life: timedelta = timedelta(hours=24)  # of a supervisor's token that is not renewed


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The server that fleet brings. It answers on the fleet's own address (docs/adr/0001)."""

    advertise_url: str  # what agents and users' machines call; the fleet's own unless a proxy stands before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The few lines of a fleet file that a reading command needs."""

    cluster: str
    listen: Address
    advertise_url: str
    state_dir: Path
    tls: Tls = field(default_factory=Tls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole fleet file."""

    origin: str  # the file, for messages
    cluster: str
    server: Embedded | ServerAccess
    store: str  # "sqlite" (a file in state_dir) or a database URL, which may hold a password
    state_dir: Path
    listen: Address
    advertise_url: str
    poll_interval: timedelta
    budget: Budget
    agent: AgentSettings
    resources: tuple[Resource, ...]
    queues: tuple[Queue, ...]  # in the order of the file
    fairness: Fairness = Fairness.PRIORITY
    starvation_after: timedelta | None = timedelta(minutes=30)  # None: never
    wait_usd_per_hour: float | None = (
        None  # what an hour of a task's waiting is worth; None: learned from what tasks cost
    )
    on_shutdown: OnShutdown = OnShutdown.NOTHING
    tls: Tls = field(default_factory=Tls)
    identity: Identity = field(default_factory=Identity)
    agents: Mapping[str, AgentSettings] = field(
        default_factory=dict
    )  # of resources that want it otherwise than `agent`

    def agent_of(self, resource: str) -> AgentSettings:
        """How a machine of this resource runs agents."""
        return self.agents.get(resource, self.agent)
