"""What an embedded server is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where the server keeps its state, what clients call it, and its patience."""

    database_url: str  # "sqlite:////var/lib/fleet/server.db", "postgresql+psycopg://..."
    database_schema: str | None = None  # on PostgreSQL: where the tables are kept; see fleet.database
    files_dir: Path  # artifacts, debug samples and models that are uploaded
    public_url: str  # what clients call: "http://fleet.lab:8765"; files are under /files of it
    # A claim whose answer was lost: so long after the claim without `tasks.started` the task is back at its head.
    lease: timedelta = timedelta(seconds=45)
    # A task that is queued again waits for its old worker to let go, at most two polls of a stock agent (2 x 5 s, and some).
    hold_back: timedelta = timedelta(seconds=12)
    watchdog: timedelta = timedelta(seconds=7200)  # in_progress without a sign of life: stopped
    # After a start, agents come back within 120 s (their longest back-off); nobody is declared dead before.
    watchdog_grace: timedelta = timedelta(seconds=600)
    worker_timeout: timedelta = timedelta(seconds=600)  # of a worker that names none of its own
    stop_patience: timedelta = timedelta(seconds=600)  # tasks.stop does not wait for an agent silent for longer
    batch_memory: timedelta = timedelta(hours=1)  # a batch of events that comes again within is not stored again
    token_life: timedelta = timedelta(days=30)
    unavailable_delay: timedelta = timedelta(
        seconds=1.5
    )  # a 503 to a POST comes late: agents repeat those without a pause

    @property
    def files_url(self) -> str:
        return self.public_url.rstrip("/") + "/files"
