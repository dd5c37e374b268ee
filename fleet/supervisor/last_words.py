"""A task under a cloud's notice is asked to save itself: by its own abort callback if it has one, else by SIGTERM.

Which of the two is asked of the server, where the script registers its callback: the last look may have been a moment before that.
Source: docs/adr/0024-notices.md
"""

from __future__ import annotations

from datetime import timedelta

from fleet.errors import FleetError
from fleet.queues.base import Claims
from fleet.supervisor.events import Asked, Event, Unasked
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.jobs import Job

# A task whose abort callback has used up its time gets SIGTERM, and so long for what it does then.
LAST_WORD = timedelta(seconds=3)
# So long SIGTERM waits for the server's answer: every second of a notice is wanted.
ANSWERS_WITHIN = timedelta(seconds=2)


def ask_to_save(job: Job, stop: StopTask, claims: Claims) -> Event | None:
    """Ask a task that runs to save itself, if its script has said that it can; called by the thread that talks to the server."""
    if not job.is_running:  # by now another may run it, and would be stopped
        return None
    try:
        if not job.has_abort_callback:
            state = claims.states([stop.task]).get(stop.task)
            if state is None or not state.can_save_itself:
                return Unasked(key=job.key)
        claims.ask_to_save(stop.task, stop.reason.text)
    except FleetError as error:
        return Unasked(key=job.key, error=error)
    return Asked(key=job.key)
