"""One request on its way through an endpoint: who asks, when, its fields as typed values, its transaction.

Fields are parsed here, at the door. What a client may leave out may also be null; unknown fields are ignored, because
the SDK sends a stray "method" with everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleet.server.records import iso, storable
from fleet.server.refusal import Refusal, invalid
from fleet.server.settings import ServerSettings

LARGEST = 2**53  # the largest whole number that JSON carries safely, and any database
LONGEST_S = 10 * 365 * 86400  # of a duration: what is meant to last for ever still fits into a date


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks. There are no roles: whoever has credentials may do everything."""

    user: str
    access_key: str
    company: str


@dataclass(slots=True, kw_only=True)
class Call:
    """A parsed request inside its transaction. Endpoints read fields, use `connection`, and may give hints."""

    name: str
    fields: Mapping[str, Any]
    identity: Identity
    at: datetime
    connection: sa.Connection
    settings: ServerSettings
    is_writing: bool
    body: bytes = b""
    remote: str = ""
    hints: set[str] = field(default_factory=set)  # names of queues in which a task became available
    due: list[datetime] = field(default_factory=list)  # when the chores should look again

    @property
    def now(self) -> str:
        return iso(self.at)

    def with_fields(self, fields: Mapping[str, Any]) -> Call:
        """The same call, transaction and hints, with other fields."""
        return replace(self, fields=fields)

    def has(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        value = self.fields.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise invalid(name, "expected a string")
        return storable(value)

    def required(self, name: str, at_least: int = 1, at_most: int = 65535) -> str:
        """A text that must be there, of a length between the bounds.

        Raises:
            Refusal: 400/800, as for every field of a wrong kind.
        """
        if not self.has(name):
            raise Refusal(400, 800, f"Data validation error: {name}=field is required")
        value = self.text(name)
        if len(value) < at_least:
            raise invalid(name, "String value is too short")
        if len(value) > at_most:
            raise invalid(name, "String value is too long")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.fields.get(name)
        if value is None:
            return default
        if isinstance(value, str):  # from a query string
            return value.lower() in ("1", "true", "yes")
        return bool(value)

    def number(self, name: str, default: int) -> int:
        value = self.fields.get(name)
        if value is None:
            return default
        try:
            return min(max(int(value), -LARGEST), LARGEST)
        except (TypeError, ValueError, OverflowError) as error:
            raise invalid(name, "expected a number") from error

    def seconds(self, name: str, default: int) -> int:
        """A duration: not negative, and short enough to count with."""
        return min(max(self.number(name, default), 0), LONGEST_S)

    def texts(self, name: str) -> list[str]:
        """A list of strings; one string is a list of one, as the server that the clients know has it."""
        value = self.fields.get(name)
        if value is None:
            return []
        if isinstance(value, str):
            return [storable(value)]
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise invalid(name, "expected a list of strings")
        return [storable(v) for v in value]

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.fields.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise invalid(name, "expected an object")
        return value

    def mappings(self, name: str) -> list[dict[str, Any]]:
        value = self.fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise invalid(name, "expected a list of objects")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What answers one name. `writes` chooses its transaction; the answer is the envelope's `data`."""

    answer: Callable[[Call], Mapping[str, Any]]
    writes: bool


def reads(answer: Callable[[Call], Mapping[str, Any]]) -> Endpoint:
    return Endpoint(answer=answer, writes=False)


def writes(answer: Callable[[Call], Mapping[str, Any]]) -> Endpoint:
    return Endpoint(answer=answer, writes=True)
