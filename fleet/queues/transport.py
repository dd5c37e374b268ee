"""One way to a ClearML API server: POST a JSON body to an endpoint, get the answer's `data`, or one of three errors.

urllib3 rather than requests, which is built on it: its pools are safe to share between threads, and a supervisor that
lives on every machine is 5 MB smaller and starts sooner (measured; requests brings character sets and cookies).

    connect fails, time runs out, 5xx, 429, an answer that cannot be read -> ServerUnreachable (perhaps it took effect)
    401, and again after one login                                        -> ServerUnauthorised
    any other 4xx                                                         -> ServerRefused with the envelope's numbers
"""

from __future__ import annotations

import json
import os
import random
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationParseError, NewConnectionError, SSLError

from fleet import __version__, trust
from fleet.errors import ServerRefused, ServerUnauthorised, ServerUnreachable
from fleet.model import ServerAccess
from fleet.queues.answers import Answer
from fleet.queues.token import Token

CONNECT_TIMEOUT_S = 4.0
READ_TIMEOUT_S = 15.0  # the slowest honest answer is a page of tasks from a server under load
CLOSING_TIMEOUT_S = 3.0  # both of them, once we are told to hurry: a machine that ends must not hang on its server
PATIENCE_S = 8.0  # how long one call is repeated; a restart of the embedded server takes two to four
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 3.0
THREADS = 4  # connections kept; more threads than that open and close their own
NOT_NOW = (408, 429, 502, 503, 504)  # nothing was done: any call may be repeated


class Transport:
    """Calls endpoints of one server. Safe to share between threads.

    `closing`, once set, cuts every wait short: calls in flight are not repeated, later ones are tried once, briefly.
    """

    def __init__(
        self, access: ServerAccess, *, closing: threading.Event | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._access = access
        self._url = access.api_url.rstrip("/")
        self._closing = closing or threading.Event()
        self._patience_s = patience_s
        self._login = threading.Lock()
        self._token: Token | None = None
        try:
            self._pool = _pool(self._url, access.authority)
        except (LocationParseError, ValueError) as error:
            raise ServerRefused(f"{self._url}: not a server's address ({error}); use http(s)://host:port") from error
        except OSError as error:
            text = f"the authorities to know it by cannot be read ({error}); see to REQUESTS_CA_BUNDLE"
            raise ServerRefused(f"{self._url}: {text}") from error

    def call(
        self,
        endpoint: str,
        body: Mapping[str, object] | bytes,
        *,
        may_repeat: bool = True,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> Answer:
        """The `data` of the answer. Bytes are sent as JSON lines.

        `may_repeat`: doing it twice does no harm, so it is also repeated when its answer was lost.

        Raises:
            ServerUnreachable, ServerUnauthorised, ServerRefused: as the module says.
        """
        deadline = time.monotonic() + self._patience_s
        token = self._authorised(None, deadline)
        has_logged_in_again = False
        attempt = 0
        while True:
            try:
                return self._once(endpoint, body, token, read_timeout_s)
            except ServerUnauthorised:
                # The token is no longer known: the server was restarted or its keys were changed. Once, not for ever.
                if has_logged_in_again:
                    raise
                has_logged_in_again = True
                token = self._authorised(token, deadline)
            except _Passing as fault:
                self._wait(fault, attempt, deadline, may_repeat or fault.is_without_effect)
                attempt += 1

    def close(self) -> None:
        """Close the connections. Waits end at once; a call in flight still ends by its own time limit."""
        self._closing.set()
        self._pool.clear()

    def _wait(self, fault: _Passing, attempt: int, deadline: float, may_repeat: bool) -> None:
        """Until the next attempt; raises instead if there shall be none."""
        delay = _delay_s(attempt, fault.retry_after_s)
        if not may_repeat or time.monotonic() + delay > deadline or self._closing.wait(delay):
            raise ServerUnreachable(str(fault)) from fault

    def _authorised(self, stale: Token | None, deadline: float) -> Token:
        """A token that is not `stale` and not about to expire; logs in if need be, one thread for all."""
        with self._login:
            token = self._token
            if token is None or token is stale or token.is_due(time.monotonic()):
                token = self._token = self._log_in(deadline)
            return token

    def _log_in(self, deadline: float) -> Token:
        basic = urllib3.make_headers(basic_auth=f"{self._access.access_key}:{self._access.secret_key}")
        attempt = 0
        while True:
            try:
                data = self._send("auth.login", b"{}", {**basic, "Content-Type": "application/json"}, READ_TIMEOUT_S)
                return Token.read(data.text("token"), time.monotonic(), time.time())
            except _Passing as fault:
                self._wait(fault, attempt, deadline, may_repeat=True)
                attempt += 1

    def _once(self, endpoint: str, body: Mapping[str, object] | bytes, token: Token, read_timeout_s: float) -> Answer:
        headers = {"Authorization": f"Bearer {token.text}", "Content-Type": "application/json"}
        if isinstance(body, bytes):
            return self._send(endpoint, body, {**headers, "Content-Type": "application/json-lines"}, read_timeout_s)
        return self._send(endpoint, json.dumps(body, separators=(",", ":")).encode(), headers, read_timeout_s)

    def _send(self, endpoint: str, content: bytes, headers: Mapping[str, str], read_timeout_s: float) -> Answer:
        connect_s = CONNECT_TIMEOUT_S
        if self._closing.is_set():
            connect_s = read_timeout_s = CLOSING_TIMEOUT_S
        where = f"{self._url} {endpoint}"
        try:
            response = self._pool.request(
                "POST",
                f"{self._url}/{endpoint}",
                body=content,
                headers={**headers, "User-Agent": f"fleet/{__version__}", "Accept-Encoding": "gzip"},
                timeout=urllib3.Timeout(connect=connect_s, read=read_timeout_s),
                retries=False,
                redirect=False,
            )
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise _Passing(f"{where}: no connection ({_last_words(error)}); is the server running?", True) from error
        except SSLError as error:
            if isinstance(error.args[0], ssl.SSLCertVerificationError):  # will not pass
                raise ServerRefused(
                    f"{where}: its certificate is not trusted ({error.args[0].verify_message}); "
                    "name its authority's file in REQUESTS_CA_BUNDLE"
                ) from error
            raise _Passing(f"{where}: no TLS ({_last_words(error)}); is it https?", True) from error
        except (HTTPError, OSError, ValueError) as error:
            raise _Passing(f"{where}: no whole answer ({_last_words(error)}); try again later", False) from error
        return _read(where, response)


class _Passing(Exception):
    """Trouble that may pass. `is_without_effect`: the server surely did nothing, so any call may be repeated."""

    def __init__(self, text: str, is_without_effect: bool, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.is_without_effect = is_without_effect
        self.retry_after_s = retry_after_s


def _read(where: str, response: urllib3.BaseHTTPResponse) -> Answer:
    """The answer's data, or the error that the answer is."""
    status = response.status
    try:
        whole: Any = json.loads(response.data)
    except (ValueError, RecursionError):
        whole = None
    meta = whole.get("meta") if isinstance(whole, dict) else None
    if not isinstance(meta, dict):
        raise _stranger(where, response)
    if 200 <= status < 300:
        data = whole.get("data")
        if not isinstance(data, dict):
            raise ServerUnreachable(
                f"{where}: the answer's data is {type(data).__name__}, not an object; is it ClearML?"
            )
        return Answer(where, data)
    raise _error(where, response, meta)


def _error(where: str, response: urllib3.BaseHTTPResponse, meta: Mapping[str, object]) -> Exception:
    status, subcode, text = (
        response.status,
        meta.get("result_subcode"),
        str(meta.get("result_msg") or "no reason given"),
    )
    said = f"{where}: {' '.join(text.split())[:500]}"
    if status == 401:
        return ServerUnauthorised(f"{said}; check access_key and secret_key")
    if status >= 500 or status in NOT_NOW:
        return _Passing(f"{said} ({status}); try again later", status in NOT_NOW, _retry_after_s(response))
    return ServerRefused(said, status, subcode if isinstance(subcode, int) else 0)


def _stranger(where: str, response: urllib3.BaseHTTPResponse) -> Exception:
    """Not an answer of a ClearML API server: something before it speaks, or it was cut off, or the address is wrong."""
    status, kind = response.status, response.headers.get("Content-Type", "no type")
    if status == 401:
        return ServerUnauthorised(f"{where}: 401 from something before the server; check access_key and secret_key")
    if status >= 500 or status in NOT_NOW:
        return _Passing(f"{where}: {status}; try again later", status in NOT_NOW, _retry_after_s(response))
    if 300 <= status < 400:
        to = response.headers.get("Location", "nowhere")
        return ServerRefused(f"{where}: redirected to {to}; give the API server's own address", status)
    if status >= 400 or "html" in kind:
        return ServerRefused(
            f"{where}: answered {status} as {kind}, not as a ClearML API server; give the API's address, not the web's",
            status if status >= 400 else 404,
        )
    return _Passing(f"{where}: an answer that is no whole ClearML envelope ({kind}); try again later", False)


def _retry_after_s(response: urllib3.BaseHTTPResponse) -> float | None:
    said = response.headers.get("Retry-After")
    try:
        return urllib3.Retry().parse_retry_after(said) if said else None
    except HTTPError:
        return None


def _delay_s(attempt: int, retry_after_s: float | None) -> float:
    """Full jitter: a fleet whose server comes back must not ask all at once. Never sooner than the server said."""
    longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 16))
    return (retry_after_s or 0.0) + random.uniform(0, longest)


def _last_words(error: BaseException) -> str:
    """The innermost cause in a few words: 'Connection refused', not three names of classes around it."""
    while isinstance(inner := error.__cause__ or error.__context__, Exception):
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


def _pool(url: str, authority: str | None) -> urllib3.PoolManager:
    """Connections as the environment wants them: proxies and certificates by the names that requests and curl know.

    With an `authority` (PEM), only what it vouches for is trusted.
    """
    parts = urllib3.util.parse_url(url)
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError("no http:// or https:// and a host")
    options: dict[str, Any] = {"num_pools": 2, "maxsize": THREADS}
    if parts.scheme == "https":
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or _ca_certs_of_last_resort()
        options["ssl_context"] = trust.context(authority, None if authority else bundle)
    if any(name.lower().endswith("_proxy") for name in os.environ):
        from urllib.request import getproxies, proxy_bypass

        proxy = getproxies().get(parts.scheme)
        if proxy and not proxy_bypass(parts.host):
            return urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", **options)
    return urllib3.PoolManager(**options)


def _ca_certs_of_last_resort() -> str | None:
    """The bundle that requests brings, on a machine that has no certificates of its own; None where it has."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return None
    from certifi import where

    return where()
