"""Reading the keys of one provider from a resource: each by its kind; a wrong one is a BadRequest that names it."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.errors import BadRequest
from fleet.model import Resource


class OwnKeys:
    """`Resource.settings`, as a provider reads them."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource

    def wrong(self, key: str, wanted: str) -> BadRequest:
        """What to raise."""
        value = self.resource.settings.get(key, getattr(self.resource, key, None))
        shown = (
            repr(value) if isinstance(value, int | float | bool) or (isinstance(value, str) and len(value) < 80) else ""
        )
        return BadRequest(f"resources.{self.resource.name}.{key}: {shown + '; ' if shown else ''}{wanted}")

    def text(self, key: str) -> str | None:
        value = self.resource.settings.get(key)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        raise self.wrong(key, "give a text")

    def whole(self, key: str, at_least: int = 1, at_most: int = 1_000_000) -> int | None:
        value = self.resource.settings.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= at_most:
            return value
        raise self.wrong(key, f"give a whole number, {at_least} to {at_most}")

    def flag(self, key: str, default: bool) -> bool:
        value = self.resource.settings.get(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise self.wrong(key, "give true or false")

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.resource.settings.get(key)
        if value is None:
            return ()
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        raise self.wrong(key, "give a list of texts, as [a, b]")

    def mapping(self, key: str) -> Mapping[str, str]:
        """Names with texts; numbers and booleans become text."""
        value = self.resource.settings.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.wrong(key, "give names with values, as {a: b}")
        pairs = {}
        for name, each in value.items():
            if not isinstance(each, str | int | float | bool):
                raise self.wrong(key, f"give a text for {str(name)[:60]}")
            pairs[str(name)] = str(each).lower() if isinstance(each, bool) else str(each)
        return pairs

    def section(self, key: str) -> Mapping[str, object]:
        value = self.resource.settings.get(key)
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return {str(name): each for name, each in value.items()}
        raise self.wrong(key, "give keys, as {a: b}")
