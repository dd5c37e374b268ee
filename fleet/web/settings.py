"""What the web is told by whoever assembles it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from fleet.model import AgentSettings, Budget, Instance, KeepAwake, Queue, ServerAccess
from fleet.web.roles import WhoIs
from fleet.wire import Proof

# Raises IdentityError, or IdentityUnknown.
Prove = Callable[[Instance, Proof | None, datetime], None]
Clock = Callable[[], datetime]  # aware, UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What the routes need to know of the fleet file."""

    cluster: str
    budget: Budget
    queues: tuple[Queue, ...]
    server_url: str = ""  # of the ClearML API, said until the first pass has seen it
    server_kind: str = "clearml"  # or "embedded"
    # Wanted by the operator API and /metrics. None: whoever reaches the port is the operator, so listen on loopback only.
    operator_token: str | None = field(default=None, repr=False)
    who_is: WhoIs | None = None  # holders of other tokens, where `operator_token` is wanted
    # Makes a key pair of the embedded server for a user: the text of his clearml.conf. None: the server is not ours.
    enlist: Callable[[str], str] | None = field(default=None, repr=False)
    # Whether a machine that enrols is the one that was launched; None: its token is enough.
    prove: Prove | None = None
    authority: str | None = None  # certificate (PEM) that machines know by its fingerprint
    package: Callable[[], Path] | None = None  # what a stock machine fetches; made at the first call
    token_life: timedelta = timedelta(hours=24)  # of a supervisor's token that is not renewed


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a supervisor is told beside its orders: the part of `Enrolled` that comes from the fleet file."""

    server: ServerAccess
    queues: tuple[Queue, ...]  # that this machine may pull from, most urgent first
    agent: AgentSettings
    idle_timeout: timedelta | None
    poll_interval: timedelta
    heartbeat_interval: timedelta
    contact_timeout: timedelta
    max_lifetime: timedelta | None
    keep_awake: KeepAwake = field(default_factory=KeepAwake)
    boot_timeout: timedelta | None = None
    min_driver: str | None = None


# Asked at every enrolment and heartbeat, so it must answer at once; may be called from many threads.
PolicyOf = Callable[[Instance], Policy]
