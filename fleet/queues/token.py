"""The token of `auth.login`, and when to get the next one. Only its dates are read; to verify it is the server's task."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field

REFRESH_AT = 0.9  # of its life: an hour's token is renewed six minutes early, a month's three days
SHORTEST_LIFE_S = 10.0  # a token that seems to have expired is used so long: one clock is wrong, and 401 will tell


@dataclass(frozen=True, slots=True)
class Token:
    """`due_at` is on this process's monotonic clock, so that a step of the wall clock does not log everybody in again."""

    text: str = field(repr=False)
    due_at: float | None  # None: it does not say when it expires

    def is_due(self, at: float) -> bool:
        return self.due_at is not None and at >= self.due_at

    @classmethod
    def read(cls, text: str, at: float, unix_at: float) -> Token:
        """Take the life from the token's own dates (exp - iat); where iat is missing, from this machine's clock."""
        claims = _claims(text)
        expires, issued = claims.get("exp"), claims.get("iat", unix_at)
        if not isinstance(expires, int | float) or not isinstance(issued, int | float):
            return cls(text, None)
        return cls(text, at + max(float(expires) - float(issued), SHORTEST_LIFE_S) * REFRESH_AT)


def _claims(text: str) -> dict[str, object]:
    parts = text.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
