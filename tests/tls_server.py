"""A server in TLS that keeps all that it is told: the dispatcher, or somebody who would like to be it."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fleet.assemble.certificate import Certificate, own
from fleet.assemble.state import StateDir


def a_certificate(place: Path, at: datetime | None = None, names: tuple[str, ...] = ("127.0.0.1",)) -> Certificate:
    """Made at that time, with an authority of its own."""
    place.mkdir(parents=True, exist_ok=True)
    return own(StateDir(place), names, at or datetime.now(UTC))


class TlsServer:
    """Answers the question for the certificate with `shown`, everything else with `answer`."""

    def __init__(self, certificate: Certificate, shown: str | None = None, answer: object = None) -> None:
        self.told: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.told.append(f"GET {self.path} {self.headers.get('Authorization')}")
                is_question = self.path == "/edge/v1/certificate"
                self._say((shown or certificate.authority or "").encode() if is_question else b"{}")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.told.append(f"POST {self.path} {self.headers.get('Authorization')} {body.decode()}")
                self._say(json.dumps(answer).encode())

            def _say(self, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that does not trust us hangs up

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.socket = certificate.context().wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
