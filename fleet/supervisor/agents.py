"""What the work of a machine asks of agents, whatever they are: processes (`runner`) or containers (`containers`).

An agent is one `clearml-agent execute`, from its start until nothing of it is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from fleet.model import Gpu, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One agent to start."""

    mark: str  # unlike that of any other allocation of this supervisor
    task: Task
    worker: str
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an agent ended."""

    exit_code: int  # negative: the signal that killed it
    why: str | None = None  # what the exit code does not say, for people: it ran out of memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An agent of an earlier supervisor of this instance, which may still run. It is known by what its order said."""

    id: str  # what `adopt` and `remove` know it by
    mark: str
    task: str
    worker: str
    gpus: tuple[str, ...]  # uuids
    is_running: bool
    started_at: datetime | None = None


class Agent(Protocol):
    """One that runs, or that has ended and is not buried yet."""

    @property
    def mark(self) -> str: ...

    @property
    def pid(self) -> int:
        """Of its first process, as this machine numbers it."""
        ...

    @property
    def output(self) -> int:
        """A file descriptor that its console is read from; it belongs to whoever reads it."""
        ...

    def end(self) -> int:
        """A new file descriptor that can be read from once it has ended.

        Raises:
            OSError: there is none left.
        """
        ...

    def text(self, data: bytes) -> bytes:
        """What of the bytes from `output` was printed; the rest is told with later ones."""
        ...

    def ask_to_end(self) -> None:
        """SIGTERM to the processes of the task. Does not wait."""
        ...

    def kill(self) -> None:
        """SIGKILL to all that is left of it. Does not wait."""
        ...


class Agents(Protocol):
    """Starts agents, and leaves nothing of them behind."""

    @property
    def is_quick(self) -> bool:
        """True: `start` does not wait, and must be called by the main thread. False: it may take minutes, in any thread."""
        ...

    def prepare(self) -> None:
        """What all agents share, once.

        Raises:
            AgentUnusable: no task can ever run here; the text says what an operator has to change.
        """
        ...

    def sweep(self) -> None:
        """Remove what earlier supervisors left and nobody has adopted. After `prepare`.

        Raises:
            AgentUnusable: it cannot be removed, and may hold what new tasks need.
        """
        ...

    def warm_up(self) -> None:
        """What takes long and need not be done before the first task is claimed; in a thread of its own.

        Raises:
            AgentUnusable: as `prepare`.
        """
        ...

    def start(self, order: Order) -> Agent:
        """Start one.

        Raises:
            OSError: no room for it now. ValueError, AgentRefused: this task cannot be started. Nothing was started.
        """
        ...

    def call_off(self, mark: str) -> None:
        """The task of an agent that is being started is not wanted any more. `start` may come to its end early."""
        ...

    def bury(self, agent: Agent) -> Outcome:
        """Kill what is left of an agent that has ended. Does not wait."""
        ...

    def clean(self, mark: str) -> None:
        """Delete what its allocation left on this machine. May take long."""
        ...

    def close(self) -> None:
        """The supervisor ends: leave nothing. May take long."""
        ...

    def place(self, mark: str) -> Path:
        """The directory of one allocation."""
        ...

    def mark_of(self, pid: int) -> str | None:
        """The mark of the agent that this process belongs to; None: to none of ours."""
        ...

    def found(self) -> tuple[Found, ...]:
        """What earlier supervisors of this instance left, ended or not. After `prepare`.

        Raises:
            OSError: whoever knows does not answer.
        """
        ...

    def adopt(self, found: Found, since: datetime) -> Agent:
        """Take it over, with what it has printed since then. Before `sweep`.

        Raises:
            OSError: it is gone, or cannot be read; nothing was changed.
        """
        ...
