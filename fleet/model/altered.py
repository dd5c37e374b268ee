"""`dataclasses.replace` in a third of the time, for the nouns that are changed with every heartbeat and every pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

Noun = TypeVar("Noun")


def altered(noun: Noun, **changes: object) -> Noun:
    """A copy of a frozen dataclass with slots and no `__post_init__`, but for these fields.

    Raises:
        KeyError: it has no such field.
    """
    kind: type = type(noun)
    places, values_of, setters = _slots(kind)
    values = list(values_of(noun))
    for name, value in changes.items():
        values[places[name]] = value
    made: Noun = object.__new__(kind)
    for set_slot, value in zip(setters, values, strict=True):
        set_slot(made, value)
    return made


@cache
def _slots(
    kind: type,
) -> tuple[dict[str, int], Callable[[object], tuple[object, ...]], tuple[Callable[..., None], ...]]:
    """Where each field stands, how to read them all, and how to write each."""
    names: list[str] = [field.name for field in fields(kind)]
    slots: list[Any] = [getattr(kind, name) for name in names]
    return {name: n for n, name in enumerate(names)}, attrgetter(*names), tuple(slot.__set__ for slot in slots)
