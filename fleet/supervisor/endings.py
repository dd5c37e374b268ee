"""One thread hears from the engine which of our containers have ended, and whether memory was what they lacked."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from fleet.supervisor.agents import Outcome
from fleet.supervisor.engine import Engine, EngineFault, Happened, Seen

log = logging.getLogger(__name__)

PAUSE_S = 1.0  # after the engine has gone away
KILLED = 137
MIB = 1 << 20


@dataclass(slots=True)
class _Expected:
    """A container whose end is awaited."""

    signal: int  # an eventfd, readable from its end on
    is_out_of_memory: bool = False
    outcome: Outcome | None = None


class Endings:
    """`expect` a container before it is started, so that its end cannot be missed."""

    def __init__(self, engine: Engine, labels: Mapping[str, str]) -> None:
        self._engine, self._labels = engine, labels
        self._lock = threading.Lock()
        self._expected: dict[str, _Expected] = {}
        self._thread: threading.Thread | None = None

    def expect(self, id_: str) -> None:
        with self._lock:
            if id_ not in self._expected:
                self._expected[id_] = _Expected(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="endings", daemon=True)
                self._thread.start()

    def descriptor(self, id_: str) -> int:
        """A file descriptor that can be read from once it has ended; the caller's to close."""
        with self._lock:
            return os.dup(self._expected[id_].signal)

    def outcome(self, id_: str) -> Outcome:
        """How it ended; as killed, if it has not."""
        with self._lock:
            return self._expected[id_].outcome or Outcome(exit_code=KILLED)

    def forget(self, id_: str) -> None:
        with self._lock:
            expected = self._expected.pop(id_, None)
        if expected:
            os.close(expected.signal)

    def _listen(self) -> None:
        """For ever. What happened while the engine did not answer is told again, and looked up besides."""
        since = time.time()
        while True:
            try:
                self._look()
                for event in self._engine.happenings(self._labels, since):
                    since = event.at
                    self._hear(event)
            except EngineFault as fault:
                log.warning("the engine does not tell of its containers", extra={"error": str(fault)})
            time.sleep(PAUSE_S)

    def _hear(self, event: Happened) -> None:
        with self._lock:
            expected = self._expected.get(event.id)
            if expected is None or expected.outcome:
                return
            if event.what == "oom":
                expected.is_out_of_memory = True
                return
        self._settle(event.id, self._engine.see(event.id))

    def _look(self) -> None:
        """Have any ended, or gone, unheard?"""
        with self._lock:
            open_ = [id_ for id_, expected in self._expected.items() if expected.outcome is None]
        for id_ in open_:
            seen = self._engine.see(id_)
            # One that was created and is not started yet has no time of its start.
            if seen is None or (not seen.is_running and seen.started_at):
                self._settle(id_, seen)

    def _settle(self, id_: str, seen: Seen | None) -> None:
        with self._lock:
            expected = self._expected.get(id_)
            if expected is None or expected.outcome:
                return
            expected.outcome = outcome_of(seen, expected.is_out_of_memory)
            with contextlib.suppress(OSError):
                os.eventfd_write(expected.signal, 1)


def outcome_of(seen: Seen | None, heard_of_memory: bool) -> Outcome:
    """PURE: what a container that has ended came to; `seen` None: somebody has removed it."""
    if seen is None:
        return Outcome(exit_code=KILLED, why="somebody removed its container")
    is_out_of_memory = seen.is_out_of_memory or (heard_of_memory and seen.exit_code != 0)
    if not is_out_of_memory:
        return Outcome(exit_code=seen.exit_code, why=seen.error or None)
    limit = f"its limit of {seen.memory_bytes // MIB} MiB" if seen.memory_bytes else "what the machine had"
    text = f"out of memory: the kernel killed it, because its container used more than {limit}"
    return Outcome(exit_code=seen.exit_code, why=text)
