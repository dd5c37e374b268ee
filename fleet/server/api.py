"""The transport of the API: a path and a body become a call, its answer an envelope.

GET, POST and PUT are the same, and all may have a body. The version in the path is ignored. Trouble that passes is a 503
with Retry-After, never a 500: at a 500 an agent drops log lines and final statuses, at a 503 it comes again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import orjson
import sqlalchemy as sa

from fleet.database import Database
from fleet.errors import StoreError
from fleet.server.call import Call, Endpoint, Identity
from fleet.server.endpoints import events, models, projects, queues, tasks_edit, tasks_find, tasks_life, users, workers
from fleet.server.gate import API_VERSION, Gate
from fleet.server.records import new_id, parse
from fleet.server.refusal import Refusal, invalid, not_unique, unknown_endpoint
from fleet.server.settings import ServerSettings

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ENDPOINTS: Mapping[str, Endpoint] = {
    name: endpoint
    for service in (queues, workers, tasks_life, tasks_edit, tasks_find, events, projects, models, users)
    for name, endpoint in service.ENDPOINTS.items()
}
LOGIN = "auth.login"
OPEN = ("debug.ping",)  # answered without credentials
RETRY_AFTER_S = 2
SDK = b"x-clearml-client"  # the header by which the SDK says what it is; agents have another
LARGEST_BODY = 64 * 2**20  # bytes; an agent's packets are at most 1 MB, plots can be larger
# Names of endpoints that nobody has are logged once each; a scanner must not fill the memory with them.
REMEMBERED_UNKNOWN = 1000
# Enough to overlap reading, one writer and a slow disk; more threads only wait for the interpreter's lock.
THREADS = 8

_PATH = re.compile(r"^/?(?:v(\d+(?:\.\d+)?)/)?([a-zA-Z_]\w*\.[a-zA-Z_]\w*)/?$")
_NOBODY = Identity(user="", access_key="", company="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What came over the wire."""

    path: str
    query: str
    authorization: str
    encoding: str
    body: bytes
    remote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back; `data` is empty on errors."""

    code: int
    subcode: int = 0
    text: str = "OK"
    data: Mapping[str, Any] = field(default_factory=dict)

    def envelope(self, path: str) -> bytes:
        found = _PATH.match(path)
        version, name = (found[1] or API_VERSION, found[2]) if found else (API_VERSION, path.strip("/"))
        id = new_id()
        meta = {
            "id": id,
            "trx": id,
            "endpoint": {"name": name, "requested_version": version, "actual_version": API_VERSION},
            "result_code": self.code,
            "result_subcode": self.subcode,
            "result_msg": self.text,
            "error_stack": None,
            "error_data": {},
        }
        return orjson.dumps({"meta": meta, "data": self.data}, option=orjson.OPT_NON_STR_KEYS)


class Api:
    """An ASGI app for everything but files. Endpoints run on threads of its own, one transaction each."""

    def __init__(
        self,
        database: Database,
        gate: Gate,
        settings: ServerSettings,
        clock: Callable[[], datetime],
        after_commit: Callable[[Call], None],
    ) -> None:
        self._database = database
        self._gate = gate
        self._settings = settings
        self._clock = clock
        self._after_commit = after_commit
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="fleet-server")
        self._unknown: set[str] = set()
        self.is_closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        headers = dict(scope["headers"])
        request = Request(
            path=scope["path"].removeprefix(scope.get("root_path", "")),
            query=scope.get("query_string", b"").decode("latin-1"),
            authorization=headers.get(b"authorization", b"").decode("latin-1"),
            encoding=headers.get(b"content-encoding", b"").decode("latin-1"),
            body=body or b"",
            remote=(scope.get("client") or ("",))[0],
        )
        if body is None:
            answer = Answer(code=413, text=f"Body is larger than {LARGEST_BODY} bytes")
            await self._respond(scope, send, 413, answer.envelope(request.path))
        elif self.is_closing:
            answer = Answer(code=503, text="The server is shutting down; try again")
            await self._respond(scope, send, 503, answer.envelope(request.path))
        else:
            loop = asyncio.get_running_loop()
            code, envelope = await loop.run_in_executor(self._threads, self._rendered, request)
            await self._respond(scope, send, code, envelope)

    def answer(self, request: Request) -> Answer:
        """The answer to one request; refusals and passing trouble are answers too."""
        try:
            return Answer(code=200, data=self._data(request))
        except Refusal as refusal:
            return Answer(code=refusal.code, subcode=refusal.subcode, text=str(refusal))
        except StoreError as error:
            log.warning("server store does not answer", extra={"path": request.path, "error": str(error)})
            return Answer(code=503, text=f"Try again: {error}")

    def _rendered(self, request: Request) -> tuple[int, bytes]:
        """The answer as bytes: made on the thread too, since a long one would hold up everybody in the event loop."""
        answer = self.answer(request)
        return answer.code, answer.envelope(request.path)

    async def _respond(self, scope: Scope, send: Send, code: int, body: bytes) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if SDK in dict(scope["headers"]):
            # Its reporter is forked with the connections of the script, and both would go on talking on the same one
            # (docs/adr/0054-connections-of-the-sdk.md).
            headers.append((b"connection", b"close"))
        if code == 503:
            headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
            if scope["method"] != "GET":
                # Agents repeat a POST that got a 503 at once and for ever (a GET after Retry-After): this is their pause.
                await asyncio.sleep(self._settings.unavailable_delay.total_seconds())
        # Head and body without a pause between them: uvloop sends them as one.
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def close(self) -> None:
        """Refuse new calls with 503, finish those that run."""
        self.is_closing = True
        self._threads.shutdown(wait=True)

    def _data(self, request: Request) -> Mapping[str, Any]:
        found = _PATH.match(request.path)
        name = found[2] if found else request.path.strip("/")
        endpoint = ENDPOINTS.get(name)
        if endpoint is None and name != LOGIN:
            raise self._unknown_endpoint(name, found[1] if found and found[1] else API_VERSION)
        if request.encoding not in ("", "identity"):
            raise Refusal(415, 0, f"Content-Encoding {request.encoding!r} is not supported")
        identity = _NOBODY if name in OPEN else self._gate.identify(request.authorization)
        fields = _fields(name, request)
        if endpoint is None:
            return self._login(identity, fields)
        try:
            return self._run(endpoint, name, fields, identity, request)
        except sa.exc.IntegrityError:
            # Two wrote the same key at the same time, on a database that lets them: the second sees the first's now.
            pass
        try:
            return self._run(endpoint, name, fields, identity, request)
        except sa.exc.IntegrityError as error:
            raise not_unique(name, str(error.orig)) from error

    def _run(
        self, endpoint: Endpoint, name: str, fields: Mapping[str, Any], identity: Identity, request: Request
    ) -> Mapping[str, Any]:
        transaction = self._database.write() if endpoint.writes else self._database.read()
        with transaction as connection:
            call = Call(
                name=name,
                fields=fields,
                identity=identity,
                at=self._clock(),
                connection=connection,
                settings=self._settings,
                is_writing=endpoint.writes,
                body=request.body,
                remote=request.remote,
            )
            data = endpoint.answer(call)
        self._after_commit(call)
        return data

    def _login(self, identity: Identity, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        wish = str(fields.get("expiration_sec") or "")
        life = timedelta(seconds=int(wish)) if wish.isdecimal() and len(wish) < 12 else None
        return {"token": self._gate.token(identity, self._clock(), life)}

    def _unknown_endpoint(self, name: str, version: str) -> Refusal:
        if name not in self._unknown and len(self._unknown) < REMEMBERED_UNKNOWN:
            self._unknown.add(name)
            log.warning("unknown endpoint asked for", extra={"endpoint": name[:200]})
        return unknown_endpoint(name, version)


async def _body(receive: Receive) -> bytes | None:
    """All of the request's body; None if it is too large."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= LARGEST_BODY:
            chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if size <= LARGEST_BODY else None


def _fields(name: str, request: Request) -> dict[str, Any]:
    """The body's fields, and those of the query string that it does not have."""
    fields: dict[str, Any] = {}
    if request.body.strip() and name != "events.add_batch":  # which reads its lines itself
        try:
            parsed = parse(request.body)
        except ValueError as error:
            raise Refusal(400, 800, f"Body is not JSON: {error}") from error
        if parsed is not None and not isinstance(parsed, dict):
            raise invalid("body", "expected a JSON object")
        fields = parsed or {}
    if request.query:
        for key, values in parse_qs(request.query).items():
            fields.setdefault(key, values[0] if len(values) == 1 else values)
    return fields
