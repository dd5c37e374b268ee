"""Tokens of operators: names, roles and hashes in a file of the state directory, which a running dispatcher reads anew when it changes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from fleet.assemble.state import StateDir, write_private
from fleet.errors import ConfigError
from fleet.nearest import which
from fleet.web.roles import Operator, Role

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One that was made. Only its hash is known."""

    name: str
    role: Role
    sha256: str
    made_at: str  # ISO-8601, UTC


class Tokens:
    """Those of one state directory."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._file = state.directory / "operators.json"
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._by_hash: dict[str, Operator] = {}

    def all(self) -> tuple[Token, ...]:
        """Oldest first.

        Raises:
            ConfigError: the file cannot be read.
        """
        data = self._state.read_json(self._file) or []
        try:
            return tuple(
                Token(name=str(d["name"]), role=Role(d["role"]), sha256=str(d["sha256"]), made_at=str(d["made_at"]))
                for d in data
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{self._file} holds no tokens of fleet's ({error}); remove it and make them anew"
            ) from error

    def create(self, name: str, role: str) -> str:
        """A new token, which is shown now and never again.

        Raises:
            ConfigError: the name is taken, or none, or there is no such role.
        """
        if role not in tuple(Role):
            raise ConfigError(f"--role {role}: there is no such role; there are {', '.join(Role)}")
        if not NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be a token's name; it has letters, digits and . _ @ -, 63 at most")
        with self._changing():
            known = self.all()
            if any(each.name == name for each in known):
                raise ConfigError(f"there is a token of {name} already; revoke it first: fleet token revoke {name}")
            text = secrets.token_urlsafe(32)
            made = Token(
                name=name, role=Role(role), sha256=_hash(text), made_at=datetime.now(UTC).isoformat(timespec="seconds")
            )
            self._write((*known, made))
        return text

    def revoke(self, name: str) -> None:
        """From now on it lets nobody in.

        Raises:
            ConfigError: there is none of this name.
        """
        with self._changing():
            known = self.all()
            left = tuple(each for each in known if each.name != name)
            if len(left) == len(known):
                raise ConfigError(f"there is no token of {name}; {which(name, (t.name for t in known))}")
            self._write(left)

    def who(self, sha256: str) -> Operator | None:
        """Whose token has this hash.

        Raises:
            ConfigError: the file cannot be read; nobody is let in.
        """
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        seen = (found.st_ino, found.st_mtime_ns)
        with self._lock:
            if seen != self._seen:
                self._by_hash = {t.sha256: Operator(name=t.name, role=t.role) for t in self.all()}
                self._seen = seen
            return self._by_hash.get(sha256)

    def _write(self, tokens: tuple[Token, ...]) -> None:
        write_private(self._file, json.dumps([asdict(each) for each in tokens], indent=1))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One command at a time: the last writer would undo what the other did."""
        self._state.prepare()
        with (self._state.directory / "operators.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
