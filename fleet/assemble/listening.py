"""An ASGI app on a socket, in a thread of its own, so that the main thread is free for signals."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
from typing import Any

import uvicorn

from fleet.config import Address
from fleet.errors import ConfigError

log = logging.getLogger(__name__)

START_S = 10.0
# A supervisor's long poll may be open for 25 s: it is cut off, and asks again.
GRACEFUL_S = 1


class Listener:
    """Listens from the moment that it is made; answers from `start` to `stop`."""

    def __init__(self, address: Address) -> None:
        """Take the port.

        Raises:
            ConfigError: it is taken, or not ours to take.
        """
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((address.host, address.port))
        except OSError as error:
            self._socket.close()
            raise ConfigError(_refusal(address, error)) from error
        self.port: int = self._socket.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, app: Any, tls: ssl.SSLContext | None = None) -> None:
        """Answer with `app`, in TLS or (None) without."""
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            http="httptools",
            loop="uvloop",
            timeout_graceful_shutdown=GRACEFUL_S,
            timeout_keep_alive=120,  # longer than any client pauses between two calls (30 s): see fleet/server/serve.py
        )
        settings.load()
        settings.ssl = tls  # uvicorn would make one from files; ours renews its certificate
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="listener", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigError("the web server did not start; see the log above")
            self._thread.join(0.01)

    def stop(self) -> None:
        """Finish what is being answered, close the port."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(GRACEFUL_S + 5)
        self._socket.close()


def _refusal(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"listen: port {address.port} on {address.host} is taken; another fleet (see `fleet status`) or another "
            "program listens there: stop it, or choose another port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"listen: {address.host} is no address of this machine; `ip address` shows those that are, 0.0.0.0 means all"
    return f"listen: cannot use {address}: {error.strerror}"
