"""Who may do what on the operator API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Each may do what those before it may."""

    VIEWER = "viewer"  # sees everything that the dashboard and the commands show
    SUBMITTER = "submitter"  # may have keys of the embedded ClearML server, and with them enqueue tasks
    ADMIN = "admin"  # gives orders to machines

    def may(self, least: Role) -> bool:
        order = tuple(Role)
        return order.index(self) >= order.index(least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Whoever holds a token."""

    name: str
    role: Role


# By the SHA-256 (hex) of a token; None: nobody's. Asked at every call.
WhoIs = Callable[[str], Operator | None]

LEAST: Mapping[str, Role] = {
    "/api/v1/status": Role.VIEWER,
    "/api/v1/events": Role.VIEWER,
    "/api/v1/tasks/{task}": Role.VIEWER,
    "/api/v1/ids": Role.VIEWER,
    "/api/v1/cost": Role.VIEWER,
    "/api/v1/instances": Role.VIEWER,
    "/metrics": Role.VIEWER,
    "/api/v1/clearml-conf": Role.SUBMITTER,
    "/api/v1/instances/{instance}/drain": Role.ADMIN,
    "/api/v1/instances/{instance}/terminate": Role.ADMIN,
    "/api/v1/resources/{resource}/breaker/reset": Role.ADMIN,
}
