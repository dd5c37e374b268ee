"""The way out of the box's network, to Debian's archive and to PyPI: a proxy for HTTP, as companies have one.

It listens in the network of the box and calls from outside of it, so that this machine needs no route, rule or address more.
What a machine has to know of it, and of whom this machine trusts, are files that the rig lends to machines; no image has them.
"""

from __future__ import annotations

import configparser
import os
import re
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.system.box.image import Unavailable
from tests.system.box.network import GATEWAY, Network

CA = Path("/etc/ssl/certs/ca-certificates.crt")  # whom this machine trusts: it may be a proxy
PIP_FILES = (Path("/etc/pip.conf"), Path("~/.config/pip/pip.conf"), Path("~/.pip/pip.conf"))
INDEXES = ("index-url", "extra-index-url")
NO_INDEX = "Tunnel connection failed: 502"  # what pip says where its index cannot be reached from here
PATIENCE_S = 60
CONNECT_S = 10
NOT_PASSED_ON = {"proxy-connection", "connection", "keep-alive"}


class WayOut:
    """Open until `close`."""

    def __init__(self, network: Network, sources: str) -> None:
        """`sources`: of Debian's packages, as apt writes them.

        Raises:
            Unavailable: there is no way out of this machine.
        """
        self._pip = _pip_settings()
        for url in re.findall(r"^[^#\n]*?(https?://[^\s/]+)", sources, re.MULTILINE)[:1]:
            _reach(url)
        with network.entered():
            self._server = ThreadingHTTPServer((GATEWAY, 0), _Proxy)
        self._server.daemon_threads = True
        # Threads are in the network of who starts them: these are outside.
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        self.url = f"http://{GATEWAY}:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def lent(self, place: Path) -> dict[str, Path]:
        """What a machine needs to use it, as files in `place`, by their paths on the machine."""
        apt, pip = place / "apt-proxy", place / "pip.conf"
        apt.write_text(f'Acquire::http::Proxy "{self.url}";\nAcquire::https::Proxy "{self.url}";\n')
        settings = self._pip | {"proxy": self.url} | ({"cert": "/etc/box-ca.crt"} if CA.exists() else {})
        pip.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items() if value))
        files = {"/etc/apt/apt.conf.d/90box-proxy": apt, "/etc/pip.conf": pip}
        return files | ({"/etc/box-ca.crt": CA} if CA.exists() else {})


def _pip_settings() -> dict[str, str]:
    """Which index the pip of this machine asks, where another machine could ask it too; nothing: the usual one."""
    found = {}
    read = configparser.ConfigParser(interpolation=None)
    read.read([file.expanduser() for file in PIP_FILES])
    for name in INDEXES:
        told = os.environ.get(f"PIP_{name.replace('-', '_').upper()}") or read.get("global", name, fallback="")
        if urls := [url for url in told.split() if url.startswith("http")]:
            found[name] = " ".join(urls)
    return found


def _reach(url: str) -> None:
    where = urlsplit(url)
    try:
        _connected(where.hostname or "", where.port or (443 if where.scheme == "https" else 80)).close()
    except OSError as error:
        raise Unavailable(f"{where.hostname} cannot be reached from this machine: {error}") from error


def _connected(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), timeout=CONNECT_S)


class _Proxy(BaseHTTPRequestHandler):
    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        try:
            there = _connected(host, int(port))
        except OSError as error:
            return self.send_error(502, explain=str(error))
        with there:
            self.send_response_only(200)
            self.end_headers()
            self.wfile.flush()
            _join(self.connection, there)
            return None

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        kept = "".join(
            f"{name}: {value}\r\n" for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON
        )
        path = where.path + (f"?{where.query}" if where.query else "")
        try:
            there = _connected(where.hostname or "", where.port or 80)
        except OSError as error:
            return self.send_error(502, explain=str(error))
        with there:
            there.sendall(f"GET {path} HTTP/1.1\r\n{kept}Connection: close\r\n\r\n".encode())
            while data := there.recv(1 << 16):
                self.wfile.write(data)
            return None

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def _join(here: socket.socket, there: socket.socket) -> None:
    """What one says the other hears, until one of them has no more to say."""
    while True:
        speaking, _, _ = select.select([here, there], [], [], PATIENCE_S)
        if not speaking:
            return
        for each in speaking:
            data = each.recv(1 << 16)
            if not data:
                return
            (there if each is here else here).sendall(data)
