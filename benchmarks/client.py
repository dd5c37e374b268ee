"""A client that costs next to nothing, so that what is measured is the server: prepared HTTP/1.1 over one kept connection."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from typing import Any

from fleet.model import ServerAccess

READ_BYTES = 64 * 1024
TIMEOUT_S = 30.0


class Client:
    """One connection to a ClearML API server, logged in. Not to be shared between threads."""

    def __init__(self, access: ServerAccess) -> None:
        scheme, _, address = access.api_url.partition("://")
        host, _, port = address.partition(":")
        self._socket = socket.create_connection((host, int(port)), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if scheme == "https":
            trusted = ssl.create_default_context(cadata=access.authority)
            self._socket = trusted.wrap_socket(self._socket, server_hostname=host)
        self._host = f"{host}:{port}"
        pair = base64.b64encode(f"{access.access_key}:{access.secret_key}".encode()).decode()
        self._authorization = f"Basic {pair}"
        self._authorization = f"Bearer {self.call('auth.login')['token']}"

    def call(self, endpoint: str, /, **fields: object) -> dict[str, Any]:
        """The `data` of the answer.

        Raises:
            RuntimeError: it is not 200.
        """
        status, body = self.send(self.prepare(endpoint, json.dumps(fields).encode()))
        if status != 200:
            raise RuntimeError(f"{endpoint}: {status} {body[:300].decode(errors='replace')}")
        data: dict[str, Any] = json.loads(body)["data"]
        return data

    def prepare(self, endpoint: str, body: bytes, kind: str = "application/json") -> bytes:
        """The whole request, to be sent later."""
        head = (
            f"POST /{endpoint} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: {self._authorization}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def send(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer, which must say its length."""
        self._socket.sendall(request)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        head, body = received[:end].lower(), received[end + 4 :]
        start = head.index(b"content-length:") + len(b"content-length:")
        length = int(head[start:].split(b"\r\n", 1)[0])
        while len(body) < length:
            body += self._receive()
        return int(head[9:12]), body

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise RuntimeError(f"{self._host} closed the connection in the middle of an answer")
        return data
