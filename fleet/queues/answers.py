"""Reading a server's answers at the door: typed values, or one line that says which field is not what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn, TypeVar

from fleet.errors import ServerUnreachable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON object of an answer. `where` names it in errors.

    A wrong type raises ServerUnreachable: whether the call took effect is unknown then. Null counts as missing.
    """

    where: str
    data: dict[str, object]

    def text(self, key: str, default: str | None = None) -> str:
        return self._get(key, str, default)

    def text_or_none(self, key: str) -> str | None:
        return self.text(key) if self.data.get(key) is not None else None

    def count(self, key: str, default: int | None = None) -> int:
        value = self._get(key, int, default)
        return self._wrong(key, "a number") if isinstance(value, bool) else value

    def object(self, key: str) -> Answer:
        """The object under `key`; an empty one if it is missing."""
        return Answer(f"{self.where}: {key}", self._get(key, dict, {}))

    def objects(self, key: str) -> tuple[Answer, ...]:
        """The list of objects under `key`; empty if it is missing."""
        items = self._get(key, list, [])
        if not all(isinstance(item, dict) for item in items):
            self._wrong(key, "a list of objects")
        return tuple(Answer(f"{self.where}: {key}[{i}]", item) for i, item in enumerate(items))

    def texts(self, key: str) -> Sequence[str]:
        items = self._get(key, list, [])
        return items if all(isinstance(item, str) for item in items) else self._wrong(key, "a list of texts")

    def time(self, key: str) -> datetime:
        at = self.time_or_none(key)
        return at if at is not None else self._wrong(key, "a time")

    def time_or_none(self, key: str) -> datetime | None:
        """ISO-8601 with or without offset (then UTC, as older servers write it)."""
        text = self.text_or_none(key)
        if text is None:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self._wrong(key, "a time")
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)

    def _get(self, key: str, kind: type[T], default: T | None) -> T:
        value = self.data.get(key)
        if value is None:
            value = default
        return value if isinstance(value, kind) else self._wrong(key, kind.__name__)

    def _wrong(self, key: str, wanted: str) -> NoReturn:
        got = type(self.data[key]).__name__ if self.data.get(key) is not None else "nothing"
        raise ServerUnreachable(f"{self.where}: {key} should be {wanted}, is {got}; the answer is of no use")
