"""What stands between us and a cloud and breaks its answers: the call has taken effect, and then its answer is cut, twisted, lost or late.

`Line.aims_at` breaks one call alone; `Line.knows` names calls whose answers never change, so that the cloud is asked once.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.waiting import PATIENCE

HANG_S = 4.0  # longer than the providers of these tests are patient
PAGE = b"<html><head><title>502</title></head><body>Bad Gateway: the proxy of somebody</body></html>"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """What is sent instead. `missing`: so many bytes fewer than its head says. None as status: the line is cut."""

    status: int | None
    body: bytes = b""
    missing: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    hangs: bool = False
    resets: bool = False  # the connection, instead of an answer


Break = Callable[[int, bytes, random.Random], Broken]


def _dropped(status: int, body: bytes, chance: random.Random) -> Broken:
    """Half of what it says is not there."""
    if body.lstrip().startswith(b"{"):
        return Broken(status=status, body=json.dumps(_without(json.loads(body), chance)).encode())
    return Broken(
        status=status, body=re.sub(rb"<(\w+)>[^<]*</\1>", lambda m: b"" if chance.random() < 0.5 else m[0], body)
    )


def _without(data: Any, chance: random.Random) -> Any:
    if isinstance(data, dict):
        return {key: _without(value, chance) for key, value in data.items() if chance.random() < 0.6}
    return [_without(item, chance) for item in data] if isinstance(data, list) else data


def _twisted(status: int, body: bytes, chance: random.Random) -> Broken:
    """Every second value is of another kind."""
    if body.lstrip().startswith(b"{"):
        return Broken(status=status, body=json.dumps(_other(json.loads(body), chance)).encode())
    wrong = (b"-1", b"", b"not-a-date", b"1e999", b"\xc3\xa9")
    text = re.sub(
        rb">([^<>\s][^<>]*)<", lambda m: b">" + chance.choice(wrong) + b"<" if chance.random() < 0.5 else m[0], body
    )
    return Broken(status=status, body=text)


def _other(data: Any, chance: random.Random) -> Any:
    if chance.random() < 0.25:
        return chance.choice([None, 7, "text", [], {}, [None], {"a": None}, True])
    if isinstance(data, dict):
        return {key: _other(value, chance) for key, value in data.items()}
    return [_other(item, chance) for item in data] if isinstance(data, list) else data


BREAKS: dict[str, Break] = {
    "half": lambda s, b, _: Broken(status=s, body=b[: len(b) // 2]),
    "shorter than it says": lambda s, b, _: Broken(status=s, body=b[: len(b) // 2], missing=len(b) - len(b) // 2 or 9),
    "empty": lambda s, b, _: Broken(status=s),
    "a page of a proxy": lambda s, b, _: Broken(status=502, body=PAGE),
    "a page as a success": lambda s, b, _: Broken(status=200, body=PAGE),
    "500 and nothing": lambda s, b, _: Broken(status=500),
    "503": lambda s, b, _: Broken(status=503, body=PAGE),
    "429": lambda s, b, _: Broken(status=429, body=PAGE, headers=(("Retry-After", "1"),)),
    "403 of a proxy": lambda s, b, _: Broken(status=403, body=PAGE),
    "404 of a proxy": lambda s, b, _: Broken(status=404, body=PAGE),
    "bytes": lambda s, b, c: Broken(status=s, body=c.randbytes(300)),
    "null": lambda s, b, _: Broken(status=s, body=b"null"),
    "a list": lambda s, b, _: Broken(status=s, body=b"[]"),
    "a number": lambda s, b, _: Broken(status=s, body=b"42"),
    "a clock that is two years off": lambda s, b, _: Broken(
        status=s, body=b, headers=(("Date", "Tue, 01 Oct 2024 00:00:00 GMT"),)
    ),
    "the line is cut": lambda s, b, _: Broken(status=None),
    "to elsewhere": lambda s, b, _: Broken(status=302, headers=(("Location", "http://127.0.0.1:1/"),)),
    "hangs": lambda s, b, _: Broken(status=s, body=b, hangs=True),
    **{f"dropped {n}": _dropped for n in range(3)},
    **{f"twisted {n}": _twisted for n in range(4)},
}


@dataclass
class Line:
    """The way to the cloud. `breaks`: how each of the next answers is broken; None: it is whole."""

    behind: str = ""
    url: str = ""
    breaks: Break | None = None
    only_first: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    broken: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    aims_at: str | None = None  # as `asked_for` names calls; None: at all of them
    knows: frozenset[str] = frozenset()
    _known: dict[tuple[str, bytes], tuple[int, bytes, str]] = field(default_factory=dict)

    def say(self, asked: str, status: int, body: bytes) -> Broken:
        how, answer = self.breaks, Broken(status=status, body=body)
        if how is None or self.aims_at not in (None, asked) or (self.only_first and self.broken):
            return answer
        said = how(status, body, self.chance)
        self.broken += said != answer
        return said

    def ask(self, asked: str, given: bytes, behind: Callable[[], tuple[int, bytes, str]]) -> tuple[int, bytes, str]:
        """Status, body and kind, from the cloud or from memory."""
        if asked not in self.knows:
            return behind()
        if (asked, given) not in self._known:
            self._known[asked, given] = behind()
        return self._known[asked, given]


def asked_for(method: str, path: str, target: str | None, body: bytes) -> str:
    """The name of a call: an action of AWS ("RunInstances"), else method and path ("POST /compute/v1/instances")."""
    if target:
        return target.rpartition(".")[2]
    action = dict(parse_qsl(body.decode(errors="replace"))).get("Action") if method == "POST" else None
    return action or f"{method} {path.partition('?')[0]}"


@contextmanager
def breaking() -> Iterator[Line]:
    """A proxy on a free port of the loopback, until the end."""
    line = Line()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = asked_for(self.command, self.path, self.headers.get("X-Amz-Target"), body)
            status, text, kind = line.ask(asked, body, lambda: self.behind(body))
            self.tell(line.say(asked, status, text), kind)

        def behind(self, body: bytes) -> tuple[int, bytes, str]:
            target = urlsplit(line.behind)
            behind = http.client.HTTPConnection(target.hostname or "", target.port, timeout=20 * PATIENCE)
            given = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "content-length")}
            behind.request(self.command, self.path, body, given)
            answer = behind.getresponse()
            text, kind = answer.read(), answer.getheader("Content-Type", "text/plain")
            behind.close()
            return answer.status, text, kind

        def tell(self, said: Broken, kind: str) -> None:
            self.close_connection = True
            if said.hangs:
                line.released.wait(HANG_S)
            if said.resets:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            if said.status is None:
                return
            self.send_response_only(said.status)
            headers = {
                "Content-Type": kind,
                "Connection": "close",
                "Date": self.date_time_string(),
                **dict(said.headers),
            }
            if said.status != 204:
                headers["Content-Length"] = str(len(said.body) + said.missing)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.body)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = pass_on

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # whoever asked has given up
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    line.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield line
    finally:
        line.released.set()
        server.shutdown()
        server.server_close()
