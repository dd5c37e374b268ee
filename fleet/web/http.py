"""What the routes have in common: bodies of bounded size, bearer tokens, JSON, and errors of one line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fleet.errors import FleetError, StoreError, WireError

# A heartbeat of 16 GPUs and a hundred attempts has 60 KiB; enrolment is open to whoever reaches the port.
MAX_BODY_BYTES = 2 * 1024 * 1024


class Json(Response):
    """An answer in JSON; dataclasses, times (ISO-8601) and durations (seconds) are welcome in it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, default=_plain)


async def read_body(request: Request) -> bytes:
    """The whole body.

    Raises:
        HTTPException: 413, longer than MAX_BODY_BYTES.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def parse_json(body: bytes) -> object:
    """The value that the body says.

    Raises:
        WireError: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError(f"the body is not JSON: {error}") from error


def bearer(request: Request) -> str:
    """The token of this call; empty if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def number(request: Request, name: str, default: float, most: float) -> float:
    """A number of the query, not negative, at most `most`.

    Raises:
        HTTPException: 400, it is not a number.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not value >= 0:
        raise HTTPException(400, f"{name}={text!r} is not a number of 0 or more")
    return min(value, most)


def on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Json({"error": error.detail}, error.status_code, headers=error.headers)


def on_fleet_error(_request: Request, error: Exception) -> Response:
    """One line for everything that fleet can refuse or fail at."""
    assert isinstance(error, FleetError)
    text = " ".join(str(error).split())
    if isinstance(error, WireError):
        return Json({"error": text}, 400)
    if isinstance(error, StoreError):  # passing, mostly: a full disk, a database that restarts
        return Json({"error": text}, 503, headers={"Retry-After": "2"})
    return Json({"error": text}, 500)


def on_crash(_request: Request, _error: Exception) -> Response:
    """A defect of ours. The traceback is in the log, and not for who asked."""
    return Json({"error": "the dispatcher failed at this call; its log has the cause"}, 500)


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON")
