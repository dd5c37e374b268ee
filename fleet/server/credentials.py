"""Access keys: who may call the server. A secret is shown once, when it is made; the table keeps its hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from fleet.database import Database
from fleet.server.records import iso
from fleet.server.tables import CREDENTIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One key pair, without its secret."""

    access_key: str
    user: str
    label: str
    created: str  # ISO-8601, UTC


def create(database: Database, user: str, label: str) -> tuple[str, str]:
    """A new pair (access_key, secret_key) for `user`. The secret cannot be read again.

    Raises:
        StoreError: the database does not answer.
    """
    access_key, secret_key = secrets.token_hex(16).upper(), secrets.token_hex(32)
    restore(database, access_key, secret_key, user, label)
    return access_key, secret_key


def restore(database: Database, access_key: str, secret_key: str, user: str, label: str) -> None:
    """Let a pair in that was made earlier, for a database that was lost."""
    row = {"access_key": access_key, "secret_hash": _hash(secret_key), "user": user, "label": label}
    with database.write() as connection:
        connection.execute(sa.insert(CREDENTIAL), {**row, "created": iso(datetime.now(UTC))})


def revoke(database: Database, access_key: str) -> bool:
    """Forget a pair; its tokens end within seconds. False: there is no such key."""
    with database.write() as connection:
        done = connection.execute(sa.delete(CREDENTIAL).where(CREDENTIAL.c.access_key == access_key))
    return done.rowcount > 0


def all(database: Database) -> tuple[Credential, ...]:
    """Every pair, oldest first."""
    with database.read() as connection:
        rows = connection.execute(sa.select(CREDENTIAL).order_by(CREDENTIAL.c.created)).all()
    return tuple(Credential(access_key=r.access_key, user=r.user, label=r.label, created=r.created) for r in rows)


def user_of(connection: sa.Connection, access_key: str) -> str | None:
    """Whose key this is; None once it is revoked."""
    user: str | None = connection.execute(
        sa.select(CREDENTIAL.c.user).where(CREDENTIAL.c.access_key == access_key)
    ).scalar()
    return user


def verify(connection: sa.Connection, access_key: str, secret_key: str) -> str | None:
    """Whose pair this is; None if key and secret do not belong together. Takes the same time either way."""
    row = connection.execute(sa.select(CREDENTIAL).where(CREDENTIAL.c.access_key == access_key)).first()
    expected = row.secret_hash if row else _hash("")
    return str(row.user) if hmac.compare_digest(_hash(secret_key), expected) and row else None


def _hash(secret_key: str) -> str:
    return hashlib.sha256(secret_key.encode()).hexdigest()
