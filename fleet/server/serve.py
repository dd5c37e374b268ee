"""The server alone on a port: `python -m fleet.server`, and what `fleet server` runs."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import uvicorn

from fleet.errors import FleetError
from fleet.model import ServerAccess
from fleet.server import credentials
from fleet.server.app import ServerSettings, create_server, open_database

# Longer than any client's pause between two calls (30 s): a connection that is closed just as a POST arrives is an error
# that clients do not repeat.
KEEP_ALIVE_S = 120
SHUTDOWN_S = 3  # for calls that run when SIGTERM comes
BACKLOG = 2048


class PortTaken(FleetError):
    """Somebody listens there already. Choose another port, or end that program."""


def serve(listen: str, state: Path, public_url: str | None = None) -> None:
    """Serve on `listen` ("HOST:PORT") with all state in directory `state`, until SIGTERM or SIGINT.

    The first start writes a credential to state/credentials.json (mode 0600).

    Raises:
        PortTaken: another program listens there.
        StoreError: the state cannot be opened.
    """
    with bind(listen) as sock:
        host, port = sock.getsockname()[:2]
        settings = settings_in(state, public_url or f"http://{host}:{port}")
        first_credential(settings, state / "credentials.json")
        run(create_server(settings).app, sock)


def settings_in(state: Path, public_url: str) -> ServerSettings:
    """The settings of a server that keeps its state in one directory."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)  # the database holds the key that signs tokens
    database_url = f"sqlite:///{(state / 'server.db').resolve()}"
    return ServerSettings(database_url=database_url, files_dir=state / "files", public_url=public_url)


def first_credential(settings: ServerSettings, file: Path) -> ServerAccess:
    """The root credential in `file`; made and written, readable by its owner alone, if there is none."""
    if not file.exists():
        database = open_database(settings.database_url)
        access_key, secret_key = credentials.create(database, "root", f"first start, in {file.name}")
        database.close()
        pair = {"access_key": access_key, "secret_key": secret_key}
        temporary = file.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump(pair, out)
        temporary.replace(file)
    pair = json.loads(file.read_text())
    return ServerAccess(
        api_url=settings.public_url,
        files_url=settings.files_url,
        web_url=settings.public_url,
        access_key=pair["access_key"],
        secret_key=pair["secret_key"],
    )


def bind(listen: str) -> socket.socket:
    """A listening socket on "HOST:PORT" (port 0: any).

    Raises:
        PortTaken: or the address is not ours, or not an address.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise PortTaken(f"cannot listen on {listen!r}: not HOST:PORT; write for example 127.0.0.1:8765")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host.strip("[]"), int(port)))
        sock.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise PortTaken(f"cannot listen on {listen}: {error}; end the program there or choose another port") from error
    return sock


def run(app: Any, sock: socket.socket) -> None:
    """uvicorn on a bound socket until SIGTERM or SIGINT, tuned for clients that poll over kept connections."""
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    # uvicorn raises the signal again once it is done: then it is done, and nothing more has to happen.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[sock])
