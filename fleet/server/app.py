"""FRONT DOOR of the embedded server: settings in, an ASGI app out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response

from fleet.database import Database
from fleet.server.api import Answer, Api, Receive, Scope, Send
from fleet.server.call import Call
from fleet.server.chores import Chores, renew_leases
from fleet.server.files import PREFIX, Files
from fleet.server.gate import Gate
from fleet.server.settings import ServerSettings

__all__ = ["Server", "ServerSettings", "create_server", "open_database"]

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")
VERSION_TABLE = "server_version"


def open_database(url: str, schema: str | None = None) -> Database:
    """The server's database with its tables at their newest revision.

    Raises:
        StoreError: it cannot be opened.
    """
    database = Database(url, schema)
    database.migrate(MIGRATIONS, VERSION_TABLE)
    return database


class Server:
    """A running server without a port: mount `app`, or give it to uvicorn. `start` and `close` may be called twice;
    the app calls them itself where its lifespan is run."""

    def __init__(
        self,
        settings: ServerSettings,
        database: Database,
        on_enqueue: Callable[[str], None],
        clock: Callable[[], datetime],
    ) -> None:
        self.settings = settings
        self.database = database
        self._on_enqueue = on_enqueue
        gate = Gate(database, settings.token_life)
        self._chores = Chores(database, settings, clock, self._after_commit)
        self._api = Api(database, gate, settings, clock, self._after_commit)
        self._files = Files(settings.files_dir, gate)
        self.app = ServerErrorMiddleware(self._route, handler=_on_bug)
        self._is_closed = False

    def start(self) -> None:
        """Begin the chores: leases, the watchdog, workers that expire."""
        self._chores.start()

    def close(self) -> None:
        """Refuse new calls with 503, finish those that run, let go of the database."""
        if not self._is_closed:
            self._is_closed = True
            self._chores.close()
            self._api.close()
            self.database.close()

    def run_chores(self) -> None:
        """One look at what is due, now."""
        self._chores.run()

    def _after_commit(self, call: Call) -> None:
        self._chores.note(call.due)
        for queue in call.hints:
            self._on_enqueue(queue)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            is_upload_to_root = path == "/" and scope["method"] == "POST"
            is_file = path == f"/{PREFIX}" or path.startswith(f"/{PREFIX}/")
            await (self._files if is_file or is_upload_to_root else self._api)(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _on_bug(request: Request, error: Exception) -> Response:
    """A fault of ours: in the envelope too. The traceback goes to the log from the middleware that calls this."""
    answer = Answer(code=500, subcode=100, text=f"General error: {type(error).__name__}")
    return Response(answer.envelope(request.url.path), status_code=500, media_type="application/json")


def _nobody_listens(queue: str) -> None:
    log.debug("task available", extra={"queue": queue})


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_server(
    settings: ServerSettings,
    on_enqueue: Callable[[str], None] = _nobody_listens,
    clock: Callable[[], datetime] = utc_now,
) -> Server:
    """A server on its database, made if it is missing.

    `on_enqueue(queue_name)` is called after the commit whenever a task becomes available in a queue (enqueued, put
    back, lease over, no longer held back), from any thread: a hint, to be cheap and not to raise.

    Raises:
        StoreError: the database cannot be opened.
    """
    database = open_database(settings.database_url, settings.database_schema)
    renew_leases(database, settings, clock())
    return Server(settings, database, on_enqueue, clock)
