"""One thread reads the consoles of all agents into their spools, and notices when an agent ends."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleet.supervisor.agents import Agent
from fleet.supervisor.lines import Lines
from fleet.supervisor.spool import Spool

READ_BYTES = 64 * 1024
# Of a console that is cut: a pipe or socket holds no more than this, unless its user has made it larger.
MOST_READS = 16
SHOW_UNFINISHED_EVERY_S = 5.0  # progress bars and lines without an end, as often as the stock agent looks


@dataclass(slots=True, kw_only=True)
class _Source:
    """One agent's console."""

    key: str
    output: int
    end: int  # readable when the agent has ended
    spool: Spool
    text: Callable[[bytes], bytes]
    lines: Lines = field(default_factory=Lines)


class Console:
    """`on_exit(key)` when an agent has ended (a process is a zombie still), `on_end(key)` when its console is in the spool."""

    def __init__(
        self, on_text: Callable[[str], None], on_exit: Callable[[str], None], on_end: Callable[[str], None]
    ) -> None:
        self._on_text, self._on_exit, self._on_end = on_text, on_exit, on_end
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._todo: list[Callable[[], None]] = []
        self._sources: dict[str, _Source] = {}
        self._show_at = 0.0
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)

    def add(self, key: str, agent: Agent, spool: Spool) -> None:
        """Read its output (which is ours from now on) into `spool` until it ends.

        Raises:
            OSError: no file descriptor left; its output is closed.
        """
        os.set_blocking(agent.output, False)
        try:
            end = agent.end()
        except OSError:
            os.close(agent.output)
            raise
        source = _Source(key=key, output=agent.output, end=end, spool=spool, text=agent.text)
        self._ask(lambda: self._register(source))

    def cut(self, key: str) -> None:
        """Take what is in the pipe now for the end: somebody that we may not kill keeps it open."""
        self._ask(lambda: self._end(key))

    def step(self) -> None:
        """Wait for something and deal with it; for the thread's loop."""
        timeout = max(self._show_at - time.monotonic(), 0) if self._sources else None
        for key, _ in self._selector.select(timeout):
            key.data()
        if time.monotonic() >= self._show_at:
            self._show_at = time.monotonic() + SHOW_UNFINISHED_EVERY_S
            for source in self._sources.values():
                if text := source.lines.pending():
                    self._keep(source, [text])

    def _ask(self, what: Callable[[], None]) -> None:
        with self._lock:
            self._todo.append(what)
        with contextlib.suppress(BlockingIOError):  # full of wake-ups: it will wake
            os.write(self._wake_write, b"!")

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        with self._lock:
            todo, self._todo = self._todo, []
        for what in todo:
            what()

    def _register(self, source: _Source) -> None:
        self._sources[source.key] = source
        self._selector.register(source.output, selectors.EVENT_READ, lambda: self._read(source))
        self._selector.register(source.end, selectors.EVENT_READ, lambda: self._exited(source))

    def _read(self, source: _Source) -> None:
        if source.key not in self._sources:  # cut a moment ago, in the same step
            return
        data = _read_now(source.output)
        if data:
            self._keep(source, source.lines.feed(source.text(data)))
        elif data is not None:
            self._end(source.key)

    def _exited(self, source: _Source) -> None:
        self._selector.unregister(source.end)
        os.close(source.end)
        source.end = -1
        self._on_exit(source.key)

    def _end(self, key: str) -> None:
        source = self._sources.pop(key, None)
        if source is None:
            return
        for _ in range(MOST_READS):  # who keeps it open may go on writing for ever
            if not (data := _read_now(source.output)):
                break
            self._keep(source, source.lines.feed(source.text(data)))
        self._keep(source, source.lines.finish())
        self._selector.unregister(source.output)
        os.close(source.output)
        self._on_end(key)

    def _keep(self, source: _Source, pieces: list[str]) -> None:
        for piece in pieces:
            source.spool.append(datetime.now(UTC), piece)
        if pieces:
            self._on_text(source.key)


def _read_now(pipe: int) -> bytes | None:
    """What is in the pipe; empty: it is closed; None: nothing at the moment."""
    try:
        return os.read(pipe, READ_BYTES)
    except BlockingIOError:
        return None
