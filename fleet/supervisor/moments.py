"""Hooks without waiting: each moment runs in a thread of its own, and what came of it is an event."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from agent_hooks.hooks import HookFailure, Hooks, Moment
from fleet.supervisor.errands import Report
from fleet.supervisor.events import Event

log = logging.getLogger(__name__)

TOLD = "hooks told"
MOST_WAITING = 10  # runs of hooks, one behind the other


class Moments:
    """Called by the main thread alone."""

    def __init__(self, hooks: Hooks, report: Report) -> None:
        self._hooks = hooks
        self._report = report
        self._threads: list[threading.Thread] = []
        self._told: threading.Thread | None = None

    def run(self, moment: Moment, facts: Mapping[str, str], then: Callable[[HookFailure | None], Event]) -> None:
        """Run the hooks of a moment, then report; at once where there are none."""
        if not self._hooks.of(moment):
            self._report(then(None))
            return

        def call() -> None:
            self._report(then(self._hooks.run(moment, facts)))

        self._started(threading.Thread(target=call, name=f"hooks {moment}", daemon=True))

    def tell(self, moment: Moment, facts: Mapping[str, str]) -> threading.Thread:
        """Run the hooks of a moment whose failure is only logged; after those that were told before, so that a machine
        which drains and ends at once has drained first. Where notices come faster than their hooks run, some are left out."""
        before = self._told
        waiting = [thread for thread in self._threads if thread.name == TOLD and thread.is_alive()]
        if moment is Moment.NOTICE and before is not None and len(waiting) >= MOST_WAITING:
            log.warning("hooks not run", extra={"moment": moment, "why": f"{len(waiting)} runs of hooks wait already"})
            return before

        def call() -> None:
            if before is not None:
                before.join()
            logged(self._hooks.run(moment, facts))

        self._told = self._started(threading.Thread(target=call, name=TOLD, daemon=True))
        return self._told

    def _started(self, thread: threading.Thread) -> threading.Thread:
        thread.start()
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        return thread

    @property
    def is_busy(self) -> bool:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return bool(self._threads)


def logged(failure: HookFailure | None) -> None:
    if failure:
        log.warning("hook failed", extra={"hook": failure.hook, "why": failure.text})
