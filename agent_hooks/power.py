"""How this machine ends, once its supervisor has no more reason to live."""

from __future__ import annotations

from typing import Protocol


class Power(Protocol):
    """The last thing that a supervisor does."""

    def end(self) -> int:
        """End the machine. The answer, where one comes back, is the exit status of the process."""
        ...


class ExitProcess:
    """The machine is a process group of its own (provider `local`): it ends with its first process."""

    def end(self) -> int:
        return 0
