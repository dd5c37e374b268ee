"""The tokens of supervisors in the memory in memory: what `fleet.store.base.EdgeStore` says of them, without a database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from fleet.store.base import OFFERED_ANEW_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one instance may come with. Hashes."""

    token: str
    issued_at: datetime | None
    successor: str | None = None
    successor_at: datetime | None = None


class Tokens:
    """Of all instances. Whoever calls holds the store's lock."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}  # by instance
        self._owners: dict[str, str] = {}  # hash -> instance

    def issue(self, instance: str, token: str, at: datetime | None) -> None:
        """Its token from now on; those before it are worth nothing."""
        self._keep(instance, Held(token=token, issued_at=at))

    def owner(self, token: str) -> str | None:
        return self._owners.get(token)

    def of(self, instance: str) -> Held:
        return self._held[instance]

    def offer(self, token: str, successor: str, at: datetime) -> bool:
        owner = self._owners.get(token)
        held = self._held.get(owner or "")
        if owner is None or held is None or held.token != token:
            return False
        if held.successor_at and at < held.successor_at + OFFERED_ANEW_AFTER:
            return False
        self._keep(owner, replace(held, successor=successor, successor_at=at))
        return True

    def take_up(self, token: str) -> None:
        owner = self._owners.get(token, "")
        held = self._held.get(owner)
        if held and held.successor == token:
            self._keep(owner, Held(token=token, issued_at=held.successor_at))

    def _keep(self, instance: str, held: Held) -> None:
        if before := self._held.get(instance):
            for each in (before.token, before.successor):
                self._owners.pop(each or "", None)
        self._held[instance] = held
        self._owners |= {each: instance for each in (held.token, held.successor) if each}
