"""A cluster's directory: databases, secrets, local instances. Private to the user who runs the centre."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fleet.config import Config
from fleet.errors import ConfigError
from fleet.model import ServerAccess
from fleet.supervisor import private

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths and small files under `directory`."""

    directory: Path

    @property
    def centre_file(self) -> Path:
        """What a running centre says of itself to the commands of the same user."""
        return self.directory / "centre.json"

    @property
    def credentials_file(self) -> Path:
        """Key pairs of the embedded server: fleet's own and the first user's."""
        return self.directory / "credentials.json"

    def prepare(self) -> None:
        """Make the directory, closed to others.

        Raises:
            ConfigError: it cannot be made or written.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.directory.chmod(0o700)
            probe = self.directory / f".{os.getpid()}.part"
            probe.write_text("can this user write here?")
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"state directory {self.directory} cannot be used: {error.strerror}; set FLEET_HOME or state_dir"
            ) from error

    def credentials(self) -> dict[str, Any] | None:
        """Key pairs of the embedded server by user; None before its first start.

        Raises:
            ConfigError: the file cannot be read, or holds something else.
        """
        pairs = self.read_json(self.credentials_file)
        if pairs is None:
            return None
        try:
            return {
                who: {key: str(pairs[who][key]) for key in ("access_key", "secret_key")} for who in ("fleet", "user")
            }
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{self.credentials_file} holds no key pairs; remove it and start again") from error

    def database(self, name: str) -> str:
        """The URL of the SQLite file of this name."""
        return f"sqlite:///{self.directory / name}.db"

    def join_secret(self) -> bytes:
        """What join tokens are derived from; made at the first start."""
        return bytes.fromhex(self._secret("join_secret"))

    def operator_token(self) -> str:
        """What the operator API wants on any address but loopback; made at the first start."""
        return self._secret("operator_token")

    def holder(self) -> str:
        """Who leads the cluster from this directory. The same over restarts, so that a restart need not wait for its own lead."""
        return self._secret("holder")

    def lock(self) -> IO[bytes]:
        """Hold the directory for one dispatcher; keep what it gives open as long as it runs.

        Raises:
            ConfigError: another dispatcher of this user runs with it.
        """
        path = self.directory / "dispatch.lock"
        try:
            file = path.open("ab")
        except OSError as error:
            raise ConfigError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            running = self.read_json(self.centre_file) or {}
            raise ConfigError(
                f"another dispatcher runs with {self.directory} (pid {running.get('pid', 'unknown')}); stop it first, or give "
                "this one another cluster name"
            ) from None
        return file

    def running(self) -> dict[str, Any] | None:
        """What the centre that runs here says of itself; None if none does: one that was killed has left its file.

        Raises:
            ConfigError: the file cannot be read.
        """
        said = self.read_json(self.centre_file)
        try:
            os.kill(int(said["pid"]), 0)
        except PermissionError:
            pass  # somebody else's, and alive
        except (OSError, KeyError, TypeError, ValueError, OverflowError):
            return None
        return dict(said)

    def read_json(self, path: Path) -> Any:
        """What a file of ours holds; None if there is none.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read ({error}); remove it and start again") from error

    def _secret(self, name: str) -> str:
        path = self.directory / name
        if not path.exists():
            write_private(path, secrets.token_hex(SECRET_BYTES))
        try:
            secret = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read ({error}); remove it and start again") from error
        if not re.fullmatch(rf"[0-9a-f]{{{2 * SECRET_BYTES}}}", secret):
            raise ConfigError(f"{path} holds no secret of fleet's; remove it and start again")
        return secret


def state_of(config: Config) -> StateDir:
    """The directory of this cluster."""
    return StateDir(config.state_dir)


def authority_file(state: StateDir) -> Path:
    """The certificate by which a centre of this directory is known; for the commands and the SDK of the same user."""
    return state.directory / "authority.pem"


def access_from(data: dict[str, Any], api_url: str, who: str, authority: str | None = None) -> ServerAccess:
    """One of the key pairs of `credentials_file`."""
    pair = data[who]
    return ServerAccess(
        api_url=api_url,
        files_url=f"{api_url}/files",
        web_url=api_url,
        access_key=pair["access_key"],
        secret_key=pair["secret_key"],
        authority=authority,
    )


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Raises:
        ConfigError: it cannot be written; what was there is still there.
    """
    try:
        private.write_private(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
