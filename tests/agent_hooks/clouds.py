"""Metadata servers of clouds over real HTTP, as their public documents describe them."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse


class Cloud:
    """What both have in common: a port, and a way to be broken."""

    def __init__(self) -> None:
        self.is_broken: bytes | None = None  # answer everything with this and status 500, or hang on b""
        self.clock_ahead_s = 0.0  # of this server's clock, against the machine's
        self.asked: list[str] = []  # method and path
        self.is_over = threading.Event()
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._do()

            def do_PUT(self) -> None:
                self._do()

            def _do(self) -> None:
                cloud.asked.append(f"{self.command} {self.path}")
                if cloud.is_broken is not None:
                    if not cloud.is_broken:
                        cloud.is_over.wait(10)
                        return
                    self.give(500, cloud.is_broken.decode(), {})
                else:
                    self.give(*cloud.answer(self.command, self.path, self.headers))  # type: ignore[arg-type]

            def give(self, status: int, text: str, headers: dict[str, str]) -> None:
                self.send_response_only(status)
                date = formatdate(time.time() + cloud.clock_ahead_s, usegmt=True)
                for name, value in {"Date": date, "Content-Length": str(len(text.encode())), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # who asked has gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        raise NotImplementedError

    def close(self) -> None:
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()


class Ec2(Cloud):
    """IMDSv2 of Amazon EC2, version 1 switched off (`HttpTokens=required`).

    Amazon EC2 User Guide: "Configure the Instance Metadata Service options" and "Use IMDSv2" (PUT with a TTL of 1 to 21600 seconds, 400
    without; 401 for a token that is missing or invalid; 403 for PUT with X-Forwarded-For), "Spot Instance interruption notices",
    "EC2 instance rebalance recommendations", "View scheduled events".

    Each token that asks for notices is of one machine: `first_only` gives notices to the first alone.
    """

    def __init__(self, *, first_only: bool = False) -> None:
        super().__init__()
        self.items: dict[str, str] = {}  # path below meta-data -> its text
        self.rsa2048: str | None = None  # the signed instance identity document
        self.tokens: list[str] = []
        self.said_at: float | None = None  # when a notice was first given, seconds since 1970
        self._first_only = first_only
        self._first: str | None = None  # the token of whoever asked first for a notice

    def interrupt(self, left_s: float, action: str = "terminate") -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.clock_ahead_s + left_s))
        self.items["spot/instance-action"] = json.dumps({"action": action, "time": at})

    def recommend_rebalance(self) -> None:
        self.items["events/recommendations/rebalance"] = json.dumps({"noticeTime": "2020-10-27T08:22:00Z"})

    def schedule(self, in_s: float, state: str = "active", description: str = "scheduled reboot") -> None:
        def shown(s: float) -> str:
            return time.strftime("%d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + s))

        event = {"NotBefore": shown(in_s), "NotAfter": shown(in_s + 1800), "Code": "system-reboot", "State": state}
        event |= {"Description": description, "EventId": "instance-event-0d59937288b749b32"}
        self.items["events/maintenance/scheduled"] = json.dumps([event])

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        if path == "/latest/api/token":
            ttl = headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if method != "PUT":
                return 405, "", {}
            if headers.get("X-Forwarded-For"):
                return 403, "", {}
            if not ttl.isdigit() or not 1 <= int(ttl) <= 21_600:
                return 400, "", {}
            self.tokens.append(hashlib.sha256(str(len(self.tokens)).encode()).hexdigest())
            return 200, self.tokens[-1], {"X-aws-ec2-metadata-token-ttl-seconds": ttl}
        token = headers.get("X-aws-ec2-metadata-token")
        if token not in self.tokens:
            return 401, "", {}
        if path == "/latest/dynamic/instance-identity/rsa2048" and self.rsa2048:
            return 200, self.rsa2048, {"Content-Type": "text/plain"}
        text = self.items.get(path.removeprefix("/latest/meta-data/"))
        if path.endswith("/spot/instance-action"):
            self._first = self._first or token
        if text is None or (self._first_only and token != self._first):
            return 404, "Not Found", {}
        self.said_at = self.said_at or time.time()
        return 200, text, {"Content-Type": "text/plain"}


class Gce(Cloud):
    """The metadata server of Google Compute Engine.

    Compute Engine documentation: "View and query VM metadata" (Metadata-Flavor both ways, 403 without; `wait_for_change`, `last_etag`,
    `timeout_sec`; ETag with every answer), "Preemptible VM instances" (`instance/preempted`), "Query metadata server for maintenance
    event notices" (`instance/maintenance-event`),
    "Verify the identity of a VM" (`identity?audience=..&format=full`, 404 without a service account).
    """

    def __init__(self) -> None:
        super().__init__()
        self._values = {"instance/preempted": "FALSE", "instance/maintenance-event": "NONE"}
        self._changed = threading.Condition()
        self.token_for: Callable[[str], str] | None = None  # audience -> identity token; None: no service account

    def say(self, key: str, value: str) -> None:
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.is_over.set()
            self._changed.notify_all()
        super().close()

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        parts = urlparse(path)
        key, asked = parts.path.removeprefix("/computeMetadata/v1/"), parse_qs(parts.query)
        if headers.get("Metadata-Flavor") != "Google":
            return 403, "Missing Metadata-Flavor:Google header.", {}
        if key == "instance/service-accounts/default/identity" and self.token_for:
            is_full = asked.get("format") == ["full"]
            return 200, self.token_for(asked["audience"][0]) if is_full else "short", {"Metadata-Flavor": "Google"}
        if key not in self._values:
            return 404, "", {"Metadata-Flavor": "Google"}
        with self._changed:
            if asked.get("wait_for_change") == ["true"]:
                known = asked.get("last_etag", [self._etag(key)])[0]
                held_s = float(asked.get("timeout_sec", ["3600"])[0])
                self._changed.wait_for(lambda: self.is_over.is_set() or self._etag(key) != known, held_s)
            etag = self._etag(key)
            return (
                200,
                self._values[key],
                {"Metadata-Flavor": "Google", "ETag": etag, "Server": "Metadata Server for VM"},
            )

    def _etag(self, key: str) -> str:
        return hashlib.sha256(self._values[key].encode()).hexdigest()[:16]
