"""How much the objects of this process hold: what grows with every task or machine is seen here before it is felt."""

import gc
import sys
from collections import deque
from collections.abc import Collection, Iterator

KINDS = (dict, set, frozenset, list, tuple, deque)


def held(*rooms: str) -> dict[str, int]:
    """The length of the longest collection in each field of the classes of these rooms, and in each of their globals; with what
    collections in it have."""
    gc.collect()
    found: dict[str, int] = {}
    for name, value in _fields(rooms):
        if isinstance(value, KINDS):
            found[name] = max(found.get(name, 0), _length(value))
    return found


def grown(before: dict[str, int], after: dict[str, int], by: int) -> dict[str, tuple[int, int]]:
    """What is longer by more than that: its lengths before and after."""
    return {name: (before.get(name, 0), now) for name, now in sorted(after.items()) if now > before.get(name, 0) + by}


def _length(collection: Collection[object]) -> int:
    inner = tuple(collection.values()) if isinstance(collection, dict) else tuple(collection)
    return len(inner) + sum(len(each) for each in inner if isinstance(each, KINDS))


def _fields(rooms: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    for each in gc.get_objects():
        kind = type(each)
        if not str(kind.__module__).startswith(rooms):  # some types have a descriptor in its place
            continue
        slots = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
        for name in (*getattr(each, "__dict__", ()), *slots):
            yield f"{kind.__module__}.{kind.__qualname__}.{name}", getattr(each, name, None)
    for name, module in tuple(sys.modules.items()):
        if name.startswith(rooms):
            yield from ((f"{name}.{key}", value) for key, value in tuple(vars(module).items()))
