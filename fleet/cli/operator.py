"""How the reading commands find the dispatcher and ask its operator API. Standard library only: these commands must be quick."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from fleet.errors import CentreRefused, CentreUnreachable, ConfigError

if TYPE_CHECKING:
    import ssl  # 20 ms that a dispatcher without TLS does not cost

DEFAULT_URL = "http://127.0.0.1:8765"
TIMEOUT_S = 10.0
MOST_BYTES = 256 * 1024 * 1024  # of an answer; a stranger's could go on for ever
PIN = "FLEET_CENTRE_CERT_SHA256"
TOKEN_FILE = "<state directory>/operator_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """Where a dispatcher is, and the token for it if it wants one."""

    url: str
    token: str | None = None
    authority: str | None = None  # a file (PEM): who vouches for it; None: those that this machine trusts
    sha256: str | None = None  # or the fingerprint of that

    def get(self, path: str, has: str, **query: object) -> dict[str, Any]:
        """The JSON object that a GET below /api/v1 answers. `has`: a key of it, by which a dispatcher is known.

        Raises:
            CentreUnreachable: nobody answers there, or somebody else.
            CentreRefused: it says no; the text is its own.
        """
        return self._ask("GET", path, has, query)

    def post(self, path: str, has: str, **said: object) -> dict[str, Any]:
        """As `get`, for a verb that changes something; `said`: the body, None left out."""
        return self._ask("POST", path, has, {}, {k: v for k, v in said.items() if v is not None})

    def _ask(
        self, method: str, path: str, has: str, query: Mapping[str, object], said: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        import http.client  # with all of email and ssl; `fleet --help` must not wait for it

        parts = urlsplit(self.url)
        asked = urlencode({k: str(v) for k, v in query.items() if v is not None})
        where = quote(f"{parts.path}/api/v1/{path}") + (f"?{asked}" if asked else "")
        wait_s = float(str(query.get("wait_s") or 0))
        timeout_s, host = TIMEOUT_S + wait_s, parts.hostname or ""
        connection = (
            http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=self._trusted())
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        )
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            connection.request(method, where, json.dumps(said) if said else None, headers)
            answer = connection.getresponse()
            body = answer.read(MOST_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CentreUnreachable(
                f"no dispatcher answers at {self.url} ({_cause(error)}); start one with `fleet up` or `fleet dispatch`, "
                "or say where it is with --url or FLEET_URL"
            ) from error
        finally:
            connection.close()
        return self._read(answer.status, body, has)

    def _trusted(self) -> ssl.SSLContext:
        """Who may answer for this address.

        Raises:
            CentreUnreachable: somebody answers who has another certificate.
        """
        import ssl

        if self.sha256:
            from fleet.pinned import authority

            return ssl.create_default_context(cadata=authority(self.url, self.sha256))
        return ssl.create_default_context(cafile=self.authority)

    def _read(self, status: int, body: bytes, has: str) -> dict[str, Any]:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            data = None
        text = data.get("error") if isinstance(data, dict) else None
        if status in (401, 403) and isinstance(text, str):
            raise CentreRefused(self._no_entry(text))
        if status >= 400 and isinstance(text, str):
            raise CentreRefused(text)
        if status >= 300 or not isinstance(data, dict) or has not in data:
            raise CentreUnreachable(
                f"{self.url} answers ({status}), but not as a dispatcher does; is another program there? "
                "Say where the dispatcher is with --url or FLEET_URL"
            )
        return data

    def _no_entry(self, text: str) -> str:
        if "has the role" in text:
            return text
        if self.token:
            return f"{self.url} does not take this token; set FLEET_TOKEN to what {TOKEN_FILE} holds on its host"
        if "token" not in text or "by its address" in text:
            return text
        return f"{self.url} wants the operator token; set FLEET_TOKEN to what {TOKEN_FILE} holds on its host"


def find_centre(url: str | None, config: Path | None) -> Centre:
    """--url, else FLEET_URL, else as the fleet file says, else the one that runs for this user, else the default address.

    Raises:
        ConfigError: the fleet file or the address cannot be read.
    """
    token, sha256 = os.environ.get("FLEET_TOKEN"), _pin()
    chosen = url or os.environ.get("FLEET_URL")
    if chosen is None:
        said = _of_fleet_file(config) or _only_running() or {"url": DEFAULT_URL}
        url = said["url"].rstrip("/")
        return Centre(url=url, token=token or said.get("token"), authority=said.get("authority"), sha256=sha256)
    whole = chosen if "://" in chosen else f"http://{chosen}"
    if not _is_url(whole):
        raise ConfigError(f"{chosen!r} is not the address of a dispatcher; give one like {DEFAULT_URL}")
    here = _of_url(whole.rstrip("/"))
    whole = whole.rstrip("/")
    return Centre(url=whole, token=token or here.get("token"), authority=here.get("authority"), sha256=sha256)


def _pin() -> str | None:
    """The fingerprint that the dispatcher's authority must have, where the environment says one."""
    said = os.environ.get(PIN)
    if not said:
        return None
    from fleet.pinned import read_fingerprint

    return read_fingerprint(said, PIN)


def home() -> Path:
    """Where fleet keeps its state: FLEET_HOME, else ~/.fleet.

    Raises:
        ConfigError: neither is known.
    """
    try:
        return Path(os.environ.get("FLEET_HOME") or Path.home() / ".fleet")
    except RuntimeError as error:
        raise ConfigError("this user has no home directory; set FLEET_HOME to a directory for fleet's state") from error


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not (parts.query or parts.fragment)
        )
    except ValueError:  # a port that is none, half an IPv6 address
        return False


def _of_fleet_file(config: Path | None) -> dict[str, Any] | None:
    """Where the dispatcher of the fleet file is: as it says itself when it runs here, else as the file says."""
    named = config or os.environ.get("FLEET_CONFIG")
    path = Path(named or "fleet.yaml")
    if not named and not path.exists():
        return None
    # Who was started with this very file says so: reading the file would take longer than all the rest.
    origin = str(path.absolute())
    running = next((said for said in _running() if said.get("origin") == origin), None) if path.exists() else None
    if running:
        return running
    from fleet.config import peek

    front = peek(path)
    file = front.state_dir / "authority.pem"
    elsewhere = {"url": front.advertise_url} | ({"authority": str(file)} if front.tls.is_on and file.exists() else {})
    return _said(front.state_dir / "centre.json") or elsewhere


def _only_running() -> dict[str, Any] | None:
    """The one dispatcher that runs for this user, if there is just one.

    Raises:
        ConfigError: there are several.
    """
    found = _running()
    if len(found) > 1:
        urls = ", ".join(said["url"] for said in found)
        raise ConfigError(f"several dispatchers run here; choose one with --url or --config: {urls}")
    return found[0] if found else None


def _of_url(url: str) -> dict[str, Any]:
    """What the dispatcher at this address left here about itself, if it runs for this user: it has the token."""
    try:
        return next((said for said in _running() if said["url"] == url), {})
    except ConfigError:
        return {}


def _running() -> list[dict[str, Any]]:
    return [said for path in sorted(home().glob("*/centre.json")) if (said := _said(path))]


def _said(path: Path) -> dict[str, Any] | None:
    """What a dispatcher left about itself, if it is still alive."""
    try:
        data = json.loads(path.read_text())
        os.kill(int(data["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return data if isinstance(data.get("url"), str) else None


def _cause(error: Exception) -> str:
    """In few words: sockets say "[Errno 111] Connection refused", http.client a class without a text."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"its certificate is not trusted; set {PIN} to the fingerprint that `fleet dispatch` prints"
    if "WRONG_VERSION_NUMBER" in str(error):
        return "it does not speak https; try http"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
