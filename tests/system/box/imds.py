"""An instance metadata service as EC2 has it.

After "Instance metadata and user data" of the Amazon EC2 User Guide: version 2 alone (a token by PUT, 401 without it),
a directory is the list of its names, and `spot/instance-action`, `events/recommendations/rebalance` are 404 until there is one.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.system.box.network import METADATA

Tree = dict[str, "str | Tree"]
TOKEN_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass
class Metadata:
    """What one machine is told of itself."""

    instance: str  # the cloud's id
    address: str
    user_data: str
    tokens: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)  # paths, in order
    meta: Tree = field(default_factory=dict)
    identity: Tree = field(default_factory=dict)  # what its cloud says of it to others, and signs

    def __post_init__(self) -> None:
        self.meta = {
            "ami-id": "ami-0123456789abcdef0",
            "events": {"maintenance": {"history": "[]", "scheduled": "[]"}},
            "hostname": self.instance,
            "instance-action": "none",
            "instance-id": self.instance,
            "instance-life-cycle": "spot",
            "instance-type": "g5.xlarge",
            "local-hostname": self.instance,
            "local-ipv4": self.address,
            "placement": {"availability-zone": "box-1a", "region": "box-1"},
        }

    def interrupt(self, at: datetime) -> None:
        """A spot interruption: this machine is taken back at that time."""
        self.meta["spot"] = {
            "instance-action": json.dumps({"action": "terminate", "time": at.strftime(TIME)}),
            "termination-time": at.strftime(TIME),
        }

    def recommend_rebalance(self, at: datetime) -> None:
        events = self.meta["events"]
        assert isinstance(events, dict)
        events["recommendations"] = {"rebalance": json.dumps({"noticeTime": at.strftime(TIME)})}

    def tree(self) -> Tree:
        document = {"instanceId": self.instance, "privateIp": self.address, "region": "box-1", "version": "2017-09-30"}
        return {
            "meta-data": self.meta,
            "user-data": self.user_data,
            "dynamic": {"instance-identity": self.identity or {"document": json.dumps(document)}},
        }


def found(tree: Tree, path: str) -> str | None:
    """The text at this path; of a directory its names, line by line."""
    at: str | Tree = tree
    for name in filter(None, path.split("/")):
        if not isinstance(at, dict) or name not in at:
            return None
        at = at[name]
    if isinstance(at, dict):
        return "\n".join(f"{name}/" if isinstance(below, dict) else name for name, below in at.items())
    return at


class MetadataService:
    """Listens in the network of the calling thread. It knows who asks by the address."""

    def __init__(self, machines: Mapping[str, Metadata]) -> None:
        """`machines`: by address; may grow later."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                machine = machines.get(self.client_address[0])
                if machine is None or not self.path.endswith("/api/token") or not self.headers.get(TOKEN_TTL):
                    return self.answer(400, "")
                machine.tokens.add(token := secrets.token_urlsafe())
                return self.answer(200, token, {TOKEN_TTL: self.headers[TOKEN_TTL]})

            def do_GET(self) -> None:
                machine = machines.get(self.client_address[0])
                if machine is None:
                    return self.answer(404, "")
                if self.headers.get(TOKEN) not in machine.tokens:
                    return self.answer(401, "")
                _, _, path = self.path.lstrip("/").partition("/")  # without its version
                machine.asked.append(path)
                text = found(machine.tree(), path)
                return self.answer(404, "") if text is None else self.answer(200, text)

            def answer(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Length": str(len(text.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((METADATA, 80), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
