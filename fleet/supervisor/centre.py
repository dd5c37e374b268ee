"""The dispatcher as its supervisors see it: enroll, heartbeat, hint, over HTTP as `fleet.wire` says."""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Mapping

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError

from fleet import __version__, trust
from fleet.errors import CentreRefused, CentreUnreachable, WireError
from fleet.pinned import authority
from fleet.wire import Enroll, Enrolled, Heartbeat, Orders, from_data, to_data

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 15.0
HINT_WAIT_S = 25  # the dispatcher holds the question so long
NOT_NOW = (408, 425, 429)


class Centre:
    """Safe to share between the heartbeat's thread and the hints'."""

    is_remote = True

    def __init__(self, url: str, certificate_sha256: str | None = None) -> None:
        """`certificate_sha256`: of the authority that vouches for it; None: those that this machine trusts.

        Raises:
            CentreRefused: `url` is no address, or has a fingerprint and no https.
        """
        self._sha256 = certificate_sha256
        self._url = url.rstrip("/")
        self._token = ""
        try:
            parts = urllib3.util.parse_url(self._url)
        except LocationParseError as error:
            raise CentreRefused(f"{url}: not an address; FLEET_CENTRE_URL must be http(s)://host:port") from error
        if parts.scheme not in ("http", "https") or not parts.host:
            raise CentreRefused(f"{url}: not an address; FLEET_CENTRE_URL must be http(s)://host:port")
        if certificate_sha256 and parts.scheme != "https":
            raise CentreRefused(f"{url}: FLEET_CENTRE_CERT_SHA256 is set, so it must be https; nothing was sent to it")
        self._pool_: urllib3.PoolManager | None = None
        self._opening = threading.Lock()

    def enroll(self, enroll: Enroll) -> Enrolled:
        """Present this machine; later calls carry the token that it is given.

        Raises:
            CentreUnreachable: try again. CentreRefused: this machine is not expected; end it.
        """
        enrolled = from_data(Enrolled, self._call("POST", "enroll", to_data(enroll)))
        self.speak_as(enrolled.token)
        return enrolled

    def speak_as(self, token: str) -> None:
        """Later calls carry this token."""
        self._token = token

    def heartbeat(self, facts: Heartbeat) -> Orders:
        return from_data(Orders, self._call("POST", "heartbeat", to_data(facts)))

    def hint(self, after: int) -> int:
        """Wait until there is a hint after this one, or a while; the newest."""
        path = f"hint?after={after}&wait_s={HINT_WAIT_S}"
        seq = self._call("GET", path, None, read_timeout_s=HINT_WAIT_S + READ_TIMEOUT_S).get("seq")
        if not isinstance(seq, int):
            raise CentreUnreachable(f"{self._url}: a hint without its number; is it a fleet dispatcher?")
        return seq

    def close(self) -> None:
        if self._pool_:
            self._pool_.clear()

    def _pool(self) -> urllib3.PoolManager:
        """Connections to the one that was meant, and to nobody else.

        Raises:
            CentreUnreachable: it has another certificate, or does not answer.
        """
        with self._opening:
            if self._pool_ is None:
                trusted = self._trusted() if self._url.startswith("https") else None
                self._pool_ = urllib3.PoolManager(num_pools=1, maxsize=2, ssl_context=trusted)
            return self._pool_

    def _trusted(self) -> ssl.SSLContext:
        if self._sha256:
            return trust.context(authority(self._url, self._sha256))
        return trust.context(None, os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE"))

    def _call(
        self, method: str, path: str, body: object, read_timeout_s: float = READ_TIMEOUT_S
    ) -> Mapping[str, object]:
        where = f"{self._url}/edge/v1/{path}"
        headers = {"Content-Type": "application/json", "User-Agent": f"fleet/{__version__}"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            response = self._pool().request(
                method,
                where,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s),
                retries=False,
                redirect=False,
            )
        except (HTTPError, OSError) as error:
            raise CentreUnreachable(f"{where}: no answer ({error}); is the dispatcher running?") from error
        return _read(where, response)


def _read(where: str, response: urllib3.BaseHTTPResponse) -> Mapping[str, object]:
    text = " ".join(response.data[:300].decode(errors="replace").split())
    if response.status >= 500 or response.status in NOT_NOW:
        raise CentreUnreachable(f"{where}: answered {response.status} {text}; try again later")
    if response.status >= 300:
        raise CentreRefused(f"{where}: answered {response.status} {text}")
    try:
        data = json.loads(response.data)
    except ValueError as error:
        raise CentreUnreachable(f"{where}: an answer that is not JSON; is it a fleet dispatcher?") from error
    if not isinstance(data, dict):
        raise WireError(f"{where}: expected an object, got {type(data).__name__}")
    return data
