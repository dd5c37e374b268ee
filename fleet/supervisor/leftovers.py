"""Containers that the engine did not remove when it was asked: they are asked for again whenever it removes another."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fleet.supervisor.engine import EngineFault

log = logging.getLogger(__name__)


class Leftovers:
    """Safe to share between threads: to remove one twice is no fault."""

    def __init__(self, remove: Callable[[str], None]) -> None:
        """`remove` raises EngineFault."""
        self._remove = remove
        self._left: dict[str, None] = {}  # ids, in the order in which they are tried

    def __len__(self) -> int:
        return len(self._left)

    def remove(self, id_: str) -> None:
        """This one; and, if that is done, those from before it, until one fails."""
        is_done = self._try(id_)
        for each in tuple(self._left):
            is_done = is_done and self._try(each)

    def _try(self, id_: str) -> bool:
        self._left.pop(id_, None)
        try:
            self._remove(id_)
        except EngineFault as fault:
            log.warning("container not removed", extra={"container": id_[:12], "error": str(fault)})
            self._left[id_] = None  # behind the others: one that can never be removed must not keep them
            return False
        return True
