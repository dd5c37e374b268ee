"""Reading one mapping of the fleet file: each key is asked for by name and kind; what is wrong is noted, not raised.

What was never asked for is an unknown key, and the names that were are the suggestions. So the grammar is written once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from fleet.nearest import nearest

LONGEST_VALUE = 1_000_000  # characters
T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class Section:
    """One mapping at `path`. After a problem the reader gives the default and goes on, so that all are found in one go."""

    def __init__(
        self, data: object, path: str, problems: list[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self._problems = problems
        self._environment = os.environ if environment is None else environment
        self._asked: list[str] = []
        self._data: dict[str, object] = {}
        if isinstance(data, dict):
            self._data = {str(key): value for key, value in data.items()}
        elif data is not None:
            self.wrong("", f"expected keys, got a {kind(data)}")

    # --- kinds of values

    def read(self, key: str, reader: Callable[[object], T], default: T) -> T:
        """`reader(value)`, whose ValueError becomes a problem; `default` if the key is missing."""
        value = self._take(key)
        if value is None:
            return default
        try:
            return reader(value)
        except ValueError as error:
            self.wrong(key, f"{error}, got {_shown(value)}" if _is_short(value) else str(error))
            return default

    def text(self, key: str, default: T, is_secret: bool = False) -> str | T:
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, str) and value:
            return value
        hint = "; put it in quotes" if isinstance(value, int | float) else ""
        shown = "" if is_secret or not _is_short(value) else f", got {_shown(value)}"
        self.wrong(key, f"expected a text{shown}{hint}")
        return default

    def value(self, key: str, default: T) -> str | T:
        """A text that may be `${ENV}`, hold it, or be `file:/path`: for addresses, users and secrets."""
        text = self.text(key, None, is_secret=True)
        if text is None:
            return default
        try:
            return resolved(text, self._environment) or default
        except ValueError as error:
            self.wrong(key, str(error))
            return default

    def place(self, key: str, default: T) -> Path | T:
        """A path; `~` is the home directory of whoever reads the file."""
        text = self.text(key, None)
        if text is None:
            return default
        try:
            return expanded(text)
        except ValueError as error:
            self.wrong(key, str(error))
            return default

    def whole(self, key: str, default: T, at_least: int = 0) -> int | T:
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= 1_000_000:
            return value
        self.wrong(key, f"expected a whole number, {at_least} or more, got {_shown(value)}")
        return default

    def positive(self, key: str, reader: Callable[[object], float], default: T) -> float | T:
        value = self.read(key, reader, None)
        if value is None or value > 0:
            return default if value is None else value
        self.wrong(key, f"must be more than 0, got {value:g}")
        return default

    def choice(self, key: str, options: type[E], default: E) -> E:
        value = self._take(key)
        if value is None:
            return default
        names = [str(option) for option in options]
        if isinstance(value, str) and value in names:
            return options(value)
        self.wrong(key, f"expected {_or(names)}, got {_shown(value)}{_meant(value, names)}")
        return default

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.wrong(key, f"expected true or false, got {_shown(value)}")
        return default

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; a single text counts as a list of one."""
        value = self._take(key)
        items = [value] if isinstance(value, str) else value
        if items is None:
            return ()
        if isinstance(items, list) and all(isinstance(item, str) and item for item in items):
            for twice in sorted({item for item in items if items.count(item) > 1}):
                self.wrong(key, f"{twice} is listed twice")
            return tuple(dict.fromkeys(items))
        self.wrong(key, f"expected a list of names, as [a, b], got {_shown(value)}")
        return ()

    def mapping(self, key: str) -> dict[str, str]:
        """Names with texts; numbers and booleans become text, values may be `${ENV}`."""
        part = self.section(key)
        pairs = {}
        for name, value in part.items():
            if isinstance(value, bool):
                value = str(value).lower()
            if isinstance(value, int | float):
                value = str(value)
            if not isinstance(value, str):
                part.wrong(name, f"expected a text, got {kind(value)}")
                continue
            try:
                pairs[name] = resolved(value, self._environment)
            except ValueError as error:
                part.wrong(name, str(error))
        return pairs

    def section(self, key: str) -> Section:
        """The mapping under `key`; an empty one if it is missing."""
        return self._below(key, self._take(key))

    def sections(self, key: str) -> Iterator[tuple[str, Section]]:
        """Each mapping under `key` with its name: resources, queues."""
        part = self.section(key)
        for name, value in part.items():
            yield name, part._below(name, value)

    def list_of_sections(self, key: str) -> Iterator[Section]:
        """Each mapping of the list under `key`; nothing if it is missing."""
        value = self._take(key)
        if value is not None and not isinstance(value, list):
            self.wrong(key, f"expected a list, got a {kind(value)}")
            return
        for i, item in enumerate(value or []):
            yield self._below(f"{key}[{i}]", item)

    def items(self) -> Iterator[tuple[str, object]]:
        """Everything in it, whatever the names."""
        for name, value in self._data.items():
            self._asked.append(name)
            yield name, value

    def rest(self) -> Iterator[tuple[str, object]]:
        """What nobody has asked for yet."""
        asked = set(self._asked)
        return ((name, value) for name, value in self.items() if name not in asked)

    def anything(self, key: str) -> object:
        """The value as it is, for whoever knows its kind; None if it is missing."""
        return self._take(key)

    # --- what is wrong

    def wrong(self, key: str, problem: str) -> None:
        name = self._name(key)
        self._problems.append(f"{name}: {problem}" if name else problem)

    def is_wrong(self, key: str) -> bool:
        """Whether something was said of it already, so that what follows from it need not be said."""
        return any(problem.startswith(f"{self._name(key)}: ") for problem in self._problems)

    def require(self, *keys: str) -> None:
        for key in keys:
            if self._data.get(key) is None:
                self.wrong(key, "is missing")

    def has(self, key: str) -> bool:
        return self._data.get(key) is not None

    def no_more(self) -> None:
        """Every key that nobody asked for is unknown."""
        for name in self._data:
            if name not in self._asked:
                meant = _meant(name, self._asked) or f"; known are {', '.join(sorted(set(self._asked)))}"
                self.wrong(name, f"unknown key{meant}")

    def _take(self, key: str) -> object:
        self._asked.append(key)
        return self._data.get(key)

    def _below(self, key: str, data: object) -> Section:
        return Section(data, self._name(key), self._problems, self._environment)

    def _name(self, key: str) -> str:
        return ".".join(part for part in (self.path, key) if part)


def kind(value: object) -> str:
    """What a YAML value is, in words for people."""
    names = {bool: "yes or no", int: "number", float: "number", str: "text", list: "list", dict: "mapping"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def resolved(text: str, environment: Mapping[str, str]) -> str:
    """`file:/path` as that file's content without space around it; each `${NAME}` as the environment has it.

    Raises:
        ValueError: no such variable or file. The text names it, never its content.
    """
    if text.startswith("file:"):
        path = expanded(text.removeprefix("file:"))
        try:
            with path.open(encoding="utf-8") as file:
                content = file.read(LONGEST_VALUE + 1)  # it may be a device without an end
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ValueError(f"file {path} cannot be read: {why}") from error
        if len(content) > LONGEST_VALUE:
            raise ValueError(f"file {path} has more than {LONGEST_VALUE} characters, which are no value")
        return content.strip()

    def from_environment(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ValueError(f"environment variable {match[1]} is not set")
        return environment[match[1]]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", from_environment, text)


def expanded(text: str) -> Path:
    """The path that this text is.

    Raises:
        ValueError: it can be none, or begins with the home directory of somebody who has none.
    """
    if "\0" in text:
        raise ValueError("a path has no null character")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text} cannot be found: no home directory is known for {text.partition('/')[0]}") from error


def _meant(value: object, names: list[str]) -> str:
    near = nearest(str(value), names)
    return f"; did you mean {near}?" if near else ""


def _or(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _shown(value: object) -> str:
    return repr(value) if _is_short(value) else f"a {kind(value)}"


def _is_short(value: object) -> bool:
    return (
        (isinstance(value, str) and len(value) <= 60)
        or isinstance(value, bool | float)
        or (isinstance(value, int) and abs(value) < 10**18)
    )
