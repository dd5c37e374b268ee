"""The last heartbeat of a machine: nothing is held any more, and it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from fleet.errors import CentreUnreachable, FleetError
from fleet.supervisor.centre import Centre
from fleet.supervisor.clock import Clock
from fleet.wire import Heartbeat

log = logging.getLogger(__name__)

WITHIN = timedelta(seconds=10)
PAUSE_S = 0.5


def tell_goodbye(centre: Centre, facts: Callable[[], Heartbeat], clock: Clock) -> None:
    """Until the dispatcher has heard it, but not for ever: the machine ends all the same."""
    deadline = clock.now() + WITHIN
    while clock.now() < deadline:
        try:
            centre.heartbeat(facts())
            return
        except CentreUnreachable:
            time.sleep(PAUSE_S)
        except FleetError as error:
            log.warning("goodbye refused", extra={"error": str(error)})
            return
