"""The last minute of a machine: nothing is held any more. Each step may fail; the machine ends all the same.

hooks `shutdown` > nobody waits for what the server did not take > its worker leaves the server's list > goodbye
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from agent_hooks.hooks import Moment
from fleet.errors import CentreUnreachable, FleetError
from fleet.model import Reason
from fleet.supervisor.clock import Clock
from fleet.supervisor.parts import Parts
from fleet.supervisor.wiring import Wired
from fleet.wire import Heartbeat

log = logging.getLogger(__name__)

GOODBYE_WITHIN = timedelta(seconds=10)
GOODBYE_PAUSE_S = 0.5
LAST_REPORTS_WITHIN_S = 5.0
SIGN_EVERY_S = 1.0  # while hooks run


def say_goodbye(
    reason: Reason,
    parts: Parts,
    wired: Wired,
    worker: str,
    facts: Callable[[], Heartbeat],
    clock: Clock,
) -> None:
    """All that is owed to others before this machine goes."""
    log.info("ending", extra={"code": reason.code, "why": reason.text})
    hooks = wired.moments.tell(Moment.SHUTDOWN, {"FLEET_REASON": reason.text})
    while hooks.is_alive():
        hooks.join(SIGN_EVERY_S)
        parts.signs.alive()
    wired.work.give_up(wired.inbox.take(0.0))
    wired.calls.unregister(worker)
    # Before the goodbye: once the dispatcher has heard it, the machine may be taken away.
    wired.calls.server.wait_until_done(LAST_REPORTS_WITHIN_S)
    deadline = clock.now() + GOODBYE_WITHIN
    while clock.now() < deadline:
        try:
            said = facts()
            orders = parts.centre.heartbeat(said)
            if not wired.work.forget_runs([run for run in said.runs if run.task in orders.runs_seen]):
                break  # it has been told all
        except CentreUnreachable:
            time.sleep(GOODBYE_PAUSE_S)
        except FleetError as error:
            log.warning("goodbye refused", extra={"error": str(error)})
            break
    parts.guard.close()
    parts.runner.close()
