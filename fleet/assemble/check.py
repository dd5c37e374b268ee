"""One line of `fleet doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, and what it is like. `fix` is empty when it is fine."""

    name: str
    found: str
    fix: str = ""

    @property
    def is_fine(self) -> bool:
        return not self.fix
