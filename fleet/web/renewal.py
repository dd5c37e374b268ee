"""Who calls, by a token that has a life and is renewed: each answer to a heartbeat may carry the next one.

The old one works until the new one is first used, so an answer that is lost locks nobody out; from then on it is worth nothing.
One that is not renewed ends with its life.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from starlette.exceptions import HTTPException

from fleet.store.base import Bearer, EdgeStore
from fleet.web.settings import Clock

# Eleven more chances before its end.
RENEWED_AFTER = 1 / 12
# A dispatcher that was away for longer than a token's life could renew none: after its start the machines have so long.
LATE_AFTER_START = timedelta(minutes=10)


class Renewal:
    """The tokens of supervisors."""

    def __init__(self, store: EdgeStore, life: timedelta, clock: Clock) -> None:
        self._store, self._life, self._clock = store, life, clock
        self._late_until = clock() + LATE_AFTER_START

    def bearer(self, token: str) -> Bearer:
        """Whose token this is.

        Raises:
            HTTPException: 401, it is nobody's, or not any more.
        """
        bearer = self.known(token)
        if bearer is None:
            raise unknown_token()
        return bearer

    def known(self, token: str) -> Bearer | None:
        """The same; None: it is nobody's, or not any more."""
        bearer = self._store.who(sha256(token)) if token else None
        return None if bearer is None or self._is_over(bearer, self._clock()) else bearer

    def take_up(self, bearer: Bearer, token: str) -> None:
        """It came with this token: if that is the new one, the old one has done its work."""
        if bearer.is_successor:
            self._store.take_up(sha256(token))

    def next(self, bearer: Bearer, token: str) -> str | None:
        """What it should come with from now on; None: go on with this one."""
        at = self._clock()
        if bearer.issued_at is None or bearer.is_successor or at < bearer.issued_at + self._life * RENEWED_AFTER:
            return None
        fresh = new_token()
        return fresh if self._store.offer(sha256(token), sha256(fresh), at) else None

    def _is_over(self, bearer: Bearer, at: datetime) -> bool:
        if bearer.issued_at is None:
            return False
        return at >= max(bearer.issued_at + self._life, self._late_until)


def new_token() -> str:
    return secrets.token_urlsafe(32)


def sha256(token: str) -> str:
    """How a token is kept: the hash of a random one needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def unknown_token() -> HTTPException:
    text = "this token is unknown or over, or its instance is gone; a machine that is told so has no purpose"
    return HTTPException(401, text, headers={"WWW-Authenticate": "Bearer"})
