"""Who may pass: key pairs (Basic) and tokens (Bearer). The key that signs tokens is kept in the database, so that
tokens survive a restart of the server."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections import OrderedDict
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

import jwt
import sqlalchemy as sa

from fleet.database import Database
from fleet.server import credentials
from fleet.server.call import Identity
from fleet.server.records import new_id
from fleet.server.refusal import no_credentials, wrong_credentials, wrong_token
from fleet.server.tables import SETTING

# What we say that we speak. The SDK takes its newest schemas from 2.31 on, the agent its container features.
API_VERSION = "2.34"
SERVER_VERSION = "2.3.0"
ALGORITHM = "HS256"
# The agent logs in again before every call unless a token has more than 12 h to live.
SHORTEST_TOKEN = timedelta(hours=24)
# A revoked key is noticed after so many seconds; until then a token that was checked is not checked again.
RECHECK_S = 5.0
REMEMBERED_TOKENS = 4096


class Gate:
    """Turns an Authorization header into an Identity, and an Identity into a token."""

    def __init__(self, database: Database, token_life: timedelta) -> None:
        self._database = database
        self._token_life = token_life
        with database.write() as connection:
            self._key = _setting(connection, "signing_key", secrets.token_hex(32))
            self.company = _setting(connection, "company", new_id())
        self._seen: OrderedDict[str, tuple[Identity, float, float]] = OrderedDict()
        self._lock = Lock()

    def identify(self, authorization: str) -> Identity:
        """Who sent this header.

        Raises:
            Refusal: 401, with the subcode for no, wrong or outdated credentials.
            StoreError: the database does not answer.
        """
        kind, _, value = authorization.partition(" ")
        if kind.lower() == "bearer" and value:
            return self._remembered(value.strip()) or self._of_token(value.strip())
        if kind.lower() == "basic" and value:
            return self._of_pair(value.strip())
        raise no_credentials()

    def token(self, identity: Identity, at: datetime, life: timedelta | None = None) -> str:
        """A token for `identity`; a wish for another life is kept to between 24 h and the server's own."""
        life = max(min(life or self._token_life, self._token_life), SHORTEST_TOKEN)
        claims = {
            "iat": int(at.timestamp()),
            "exp": int((at + life).timestamp()),
            "api_version": API_VERSION,
            "server_version": SERVER_VERSION,
            "feature_set": "basic",
            "identity": {"user": identity.user, "company": identity.company, "role": "admin"},
            "key": identity.access_key,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def _remembered(self, token: str) -> Identity | None:
        with self._lock:
            identity, until, expires = self._seen.get(token, (None, 0.0, 0.0))
        return identity if time.monotonic() < until and time.time() < expires else None

    def _of_token(self, token: str) -> Identity:
        claims = self._claims(token)
        with self._database.read() as connection:
            user = credentials.user_of(connection, str(claims.get("key")))
        if user is None:
            raise wrong_token("its credentials were revoked")
        identity = Identity(user=user, access_key=str(claims["key"]), company=self.company)
        with self._lock:
            self._seen[token] = (identity, time.monotonic() + RECHECK_S, float(claims["exp"]))
            while len(self._seen) > REMEMBERED_TOKENS:
                self._seen.popitem(last=False)
        return identity

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            return jwt.decode(token, self._key, algorithms=[ALGORITHM], options={"require": ["exp"]})
        except jwt.ExpiredSignatureError as error:
            raise wrong_token("expired") from error
        except jwt.InvalidTokenError as error:
            raise wrong_token("cannot be verified") from error

    def _of_pair(self, value: str) -> Identity:
        try:
            key, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise wrong_credentials() from error
        with self._database.read() as connection:
            user = credentials.verify(connection, key, secret)
        if user is None or not colon:
            raise wrong_credentials()
        return Identity(user=user, access_key=key, company=self.company)


def _setting(connection: sa.Connection, key: str, first: str) -> str:
    """The value of a setting, which is `first` if there is none yet."""
    found: str | None = connection.execute(sa.select(SETTING.c.value).where(SETTING.c.key == key)).scalar()
    if found is None:
        connection.execute(sa.insert(SETTING), {"key": key, "value": first})
    return found or first
