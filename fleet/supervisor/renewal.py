"""The dispatcher, to whom this machine speaks with the newest token that it was given.

A token is kept before it is used: the first call with it ends the one before, and a supervisor that was killed
in between must still find one that works.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from fleet.supervisor.centre import Centre
from fleet.supervisor.comeback import Comeback
from fleet.supervisor.identity import Identity
from fleet.wire import Enrolled, Heartbeat, Orders

log = logging.getLogger(__name__)


class Renewing:
    """A `Superior`. Of its tokens nobody else needs to know."""

    is_remote = True

    def __init__(self, centre: Centre, identity: Identity, enrolled: Enrolled, comeback: Comeback) -> None:
        self._centre, self._identity, self._enrolled, self._comeback = centre, identity, enrolled, comeback
        centre.speak_as(enrolled.token)

    def heartbeat(self, facts: Heartbeat) -> Orders:
        """Raises: as `Centre.heartbeat`."""
        orders = self._centre.heartbeat(facts)
        if orders.token:
            self._take(orders.token)
        return orders

    def hint(self, after: int) -> int:
        """Raises: as `Centre.hint`."""
        return self._centre.hint(after)

    def _take(self, token: str) -> None:
        enrolled = replace(self._enrolled, token=token)
        # What cannot be kept is not used: it is offered again, and the one before works on.
        if self._identity.keep_enrolled(enrolled):
            self._enrolled = enrolled
            self._comeback.keep(token)
            self._centre.speak_as(token)
            log.info("token renewed")
