"""What must happen although nobody calls: leases run out, held tasks are let go, silent workers and tasks end.

All of it also holds without this thread: a claim looks for leases that ran out itself. The thread makes it happen in time.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from fleet.database import Database
from fleet.errors import StoreError
from fleet.server import events, waiting
from fleet.server.call import Call, Identity
from fleet.server.endpoints import tasks_life, workers
from fleet.server.records import iso
from fleet.server.settings import ServerSettings

log = logging.getLogger(__name__)

# How often to look without a reason, for what another process did and for silent workers.
EVERY_S = 5.0
# Longer between two looks: this host slept, its clock was set, or the database was away. Nobody could give a sign of life meanwhile.
OUTAGE = timedelta(minutes=1)
_SELF = Identity(user="fleet", access_key="", company="")


class Chores:
    """A thread that looks when something is due; `run` is one look."""

    def __init__(
        self,
        database: Database,
        settings: ServerSettings,
        clock: Callable[[], datetime],
        after_commit: Callable[[Call], None],
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._after_commit = after_commit
        self._began_at = clock()
        self._looked_at: datetime | None = None
        self._due: list[datetime] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="fleet-server-chores", daemon=True)
            self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def note(self, due: list[datetime]) -> None:
        """Look again at these times."""
        if due:
            with self._changed:
                is_earlier = not self._due or min(due) < self._due[0]
                for at in due:
                    heapq.heappush(self._due, at)
                if is_earlier:
                    self._changed.notify()

    def run(self) -> None:
        """One look, in one transaction.

        Raises:
            StoreError: the database does not answer.
        """
        at = self._clock()
        with self._database.write() as connection:
            call = Call(
                name="chores",
                fields={},
                identity=_SELF,
                at=at,
                connection=connection,
                settings=self._settings,
                is_writing=True,
            )
            if self._looked_at is not None and at - self._looked_at > OUTAGE:
                self._began_at = at
                waiting.renew_claims(connection, iso(at + self._settings.lease))
            if restored := waiting.restore_expired(call):
                log.warning("claimed tasks did not start and are back in their queues", extra={"tasks": restored})
            waiting.release_held(call)
            workers.forget_expired(call)
            # After an outage agents need time to come back: neither they nor what they send again is judged before.
            if at - self._began_at >= self._settings.watchdog_grace:
                if stopped := tasks_life.stop_silent(call):
                    log.warning("tasks without a sign of life were stopped", extra={"tasks": stopped})
                events.forget_batches(call, self._settings.batch_memory)
        self._looked_at = at
        self._after_commit(call)

    def _loop(self) -> None:
        while True:
            with self._changed:
                if not self._is_closing:
                    self._changed.wait(self._pause_s())
                if self._is_closing:
                    return
                while self._due and self._due[0] <= self._clock():
                    heapq.heappop(self._due)
            try:
                self.run()
            except StoreError as error:
                log.warning("chores put off: the store does not answer", extra={"error": str(error)})

    def _pause_s(self) -> float:
        if not self._due:
            return EVERY_S
        # A little late rather than a little early: what is due then is due for the database too.
        until = self._due[0] + timedelta(milliseconds=5) - self._clock()
        return min(max(until.total_seconds(), 0.0), EVERY_S)


def renew_leases(database: Database, settings: ServerSettings, at: datetime) -> None:
    """At a start: whoever claimed before the server went away gets the whole lease again to say that it started."""
    with database.write() as connection:
        waiting.renew_claims(connection, iso(at + settings.lease))
