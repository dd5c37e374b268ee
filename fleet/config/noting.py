"""An environment that remembers what was asked of it: what a file names as `${NAME}` is its secret, and not for the processes after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Noting(Mapping[str, str]):
    """As `environment`, and the `names` whose values were read."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self._environment[name]

    def __contains__(self, name: object) -> bool:
        return name in self._environment

    def __iter__(self) -> Iterator[str]:
        return iter(self._environment)

    def __len__(self) -> int:
        return len(self._environment)
