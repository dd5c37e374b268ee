"""One call to a cloud's REST API, with an end in time and size; what comes back is JSON or an error of ours."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import requests
from urllib3.exceptions import HTTPError

from fleet.errors import Throttled, UnknownProviderFault

LARGEST_ANSWER = 64 * 2**20  # bytes; 500 instances of the longest kind are 5 MB
# A cloud that asks for more patience than this is asked again anyway: the dispatcher's own pauses double.
LONGEST_SILENCE_S = 120.0


class Session(Protocol):
    """What of `requests.Session` is needed; google-auth's session has it too."""

    @property
    def request(self) -> Callable[..., requests.Response]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the cloud said."""

    status: int
    body: Mapping[str, Any]
    retry_after_s: float | None = None
    clock_is_off_by_s: float = 0.0  # this machine's clock before (+) or behind (-) the cloud's

    @property
    def is_fine(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True)
class Rest:
    """An API at one address. `cloud`: its name in errors. A refusal with Retry-After is kept to by all calls of this object."""

    cloud: str
    url: str
    session: Session
    timeout_s: float = 10.0
    now: Callable[[], float] = time.monotonic
    _silent_until: float = field(default=0.0, init=False)

    def call(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: object = None) -> Answer:
        """The answer, whatever its status.

        Raises:
            UnknownProviderFault: no answer in time, or one that is no JSON object; whether the call took effect is unknown.
            Throttled: the cloud asked a moment ago for silence; nothing was sent.
        """
        if (left := self._silent_until - self.now()) > 0:
            raise Throttled(f"{self.cloud} asked not to be called for another {left:.0f} s")
        where = f"{self.cloud} ({method} {self.url}{path})"
        try:
            answer = self._sent(method, path, query, body, where)
        except (requests.RequestException, HTTPError, OSError) as error:
            raise UnknownProviderFault(f"{where} did not answer: {_why(error)}") from error
        if answer.status in (429, 503) and answer.retry_after_s:
            self._silent_until = self.now() + min(answer.retry_after_s, LONGEST_SILENCE_S)
        return answer

    def _sent(self, method: str, path: str, query: Mapping[str, Any] | None, body: object, where: str) -> Answer:
        deadline = self.now() + self.timeout_s
        response = self.session.request(
            method,
            f"{self.url}{path}",
            params={k: v for k, v in (query or {}).items() if v is not None},
            json=body,
            timeout=self.timeout_s,
            stream=True,
            allow_redirects=False,  # an API does not redirect; whoever does wants the credentials
        )
        with response:
            raw = bytearray()
            # What has come, however little: to wait for a whole piece would be to wait for as long as the cloud likes.
            while piece := response.raw.read1(65536, decode_content=True):
                raw += piece
                if self.now() > deadline or len(raw) > LARGEST_ANSWER:
                    raise UnknownProviderFault(
                        f"{where} answers too slowly or too much ({len(raw)} bytes); tried again later"
                    )
        headers = response.headers
        return Answer(
            status=response.status_code,
            body=_json(bytes(raw), response.status_code, where),
            retry_after_s=_seconds(headers.get("Retry-After")),
            clock_is_off_by_s=_skew(headers.get("Date")),
        )


def _json(raw: bytes, status: int, where: str) -> Mapping[str, Any]:
    """Errors may come as HTML from whatever stands before the cloud: then the status alone speaks."""
    if not raw.strip() and (status == 204 or status >= 300):
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        if status >= 300:
            return {}
        raise UnknownProviderFault(f"{where} answered {status} with what is no JSON: {_why(error)}") from error
    if not isinstance(body, dict):
        if status >= 300:
            return {}
        raise UnknownProviderFault(f"{where} answered {status} with a {type(body).__name__}, not an object")
    return body


def _seconds(text: str | None) -> float | None:
    """Retry-After: seconds, or a date."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    moment = _moment(text)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0) if moment else None


def _skew(date: str | None) -> float:
    moment = _moment(date) if date else None
    return (datetime.now(UTC) - moment).total_seconds() if moment else 0.0


def _moment(text: str) -> datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _why(error: Exception) -> str:
    """In one line without addresses of objects."""
    reason: object = error
    while isinstance(reason, Exception) and reason.args and isinstance(reason.args[0], Exception):
        reason = reason.args[0]
    return " ".join(str(getattr(reason, "reason", None) or reason).split())[:200] or type(error).__name__
