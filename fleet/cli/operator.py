"""How the reading commands find the dispatcher and ask its operator API. Standard library only: these commands must be quick."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from fleet.errors import CentreRefused, CentreUnreachable, ConfigError

DEFAULT_URL = "http://127.0.0.1:8765"
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """Where a dispatcher is, and the token for it if it wants one."""

    url: str
    token: str | None = None

    def get(self, path: str, **query: object) -> Any:
        """The JSON that a GET answers.

        Raises:
            CentreUnreachable: nobody answers there.
            CentreRefused: it says no; the text is its own.
        """
        return self._ask("GET", path, query)

    def post(self, path: str) -> Any:
        """As `get`, for a verb that changes something."""
        return self._ask("POST", path, {})

    def _ask(self, method: str, path: str, query: Mapping[str, object]) -> Any:
        import http.client  # with all of email and ssl; `fleet --help` must not wait for it

        parts = urlsplit(self.url)
        asked = urlencode({k: str(v) for k, v in query.items() if v is not None})
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        wait_s = float(str(query.get("wait_s") or 0))
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S + wait_s)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            connection.request(method, f"{quote(path)}?{asked}" if asked else quote(path), headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise CentreUnreachable(
                f"no dispatcher answers at {self.url} ({error}); start one with `fleet up` or `fleet dispatch`, "
                "or say where it is with --url or FLEET_URL"
            ) from error
        finally:
            connection.close()
        return _read(self.url, answer.status, body)


def find_centre(url: str | None, config: Path | None) -> Centre:
    """--url, else FLEET_URL, else as the fleet file says, else the one that runs for this user, else the default address.

    Raises:
        ConfigError: the fleet file or the address cannot be read.
    """
    token = os.environ.get("FLEET_TOKEN")
    chosen = url or os.environ.get("FLEET_URL")
    if chosen is None:
        said = _of_fleet_file(config) or _only_running() or {"url": DEFAULT_URL}
        return Centre(url=said["url"].rstrip("/"), token=token or said.get("token"))
    if "://" not in chosen:
        chosen = f"http://{chosen}"
    if urlsplit(chosen).scheme not in ("http", "https") or not urlsplit(chosen).hostname:
        raise ConfigError(f"{chosen!r} is not the address of a dispatcher; give one like {DEFAULT_URL}")
    return Centre(url=chosen.rstrip("/"), token=token)


def home() -> Path:
    """Where fleet keeps its state: FLEET_HOME, else ~/.fleet."""
    return Path(os.environ.get("FLEET_HOME") or Path.home() / ".fleet")


def _of_fleet_file(config: Path | None) -> dict[str, Any] | None:
    """Where the dispatcher of the fleet file is: as it says itself when it runs here, else as the file says."""
    path = config or Path(os.environ.get("FLEET_CONFIG") or "fleet.yaml")
    if config is None and not path.exists():
        return None
    from fleet.config import peek

    front = peek(path)
    return _said(front.state_dir / "centre.json") or {"url": front.advertise_url}


def _only_running() -> dict[str, Any] | None:
    """The one dispatcher that runs for this user, if there is just one."""
    found = [said for path in home().glob("*/centre.json") if (said := _said(path))]
    return found[0] if len(found) == 1 else None


def _said(path: Path) -> dict[str, Any] | None:
    """What a dispatcher left about itself, if it is still alive."""
    try:
        data = json.loads(path.read_text())
        os.kill(int(data["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return data if isinstance(data.get("url"), str) else None


def _read(url: str, status: int, body: bytes) -> Any:
    try:
        data = json.loads(body)
    except ValueError as error:
        raise CentreUnreachable(f"{url} answers, but not as a dispatcher does; is another program there?") from error
    if status >= 400:
        text = data.get("error") if isinstance(data, dict) else None
        if status in (401, 403):
            raise CentreRefused(f"{text or 'not allowed'}; set FLEET_TOKEN to the operator token of {url}")
        raise CentreRefused(str(text or f"{url} answered {status}"))
    return data
