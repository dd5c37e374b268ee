"""The files server: artifacts, debug samples and models, under /files of the server's own port.

POST a multipart form whose parts are NAMED by their path; GET (with Range), HEAD and DELETE that path. An upload is
streamed to disk and appears under its name when it is whole. The same tokens as for the API; no path leaves the directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from fleet.errors import StoreError
from fleet.server.api import RETRY_AFTER_S, Receive, Scope, Send
from fleet.server.gate import Gate
from fleet.server.records import new_id
from fleet.server.refusal import Refusal

PREFIX = "files"
INCOMING = ".incoming"  # uploads that are not whole yet; on the same file system, so that a rename finishes them
WRITE_AT_ONCE = 2**20  # bytes gathered before they go to disk
LARGEST_LIST = 8 * 2**20  # bytes of names of files to delete
MOST_TRIES = 5  # to put a file into a folder that others delete
LONGEST_PART, LONGEST_PATH = 255, 4000  # bytes of one path component, and of all of them, as Linux has it
# What users upload is data: a browser that opens it must not run it as a page of this server.
SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
T = TypeVar("T")


class Files:
    """An ASGI app for paths under /files, and for POST / with names under files/."""

    def __init__(self, directory: Path, gate: Gate) -> None:
        self._directory = directory.resolve()
        self._gate = gate
        self._incoming = self._directory / INCOMING
        shutil.rmtree(self._incoming, ignore_errors=True)  # of an upload that a crash cut off
        self._incoming.mkdir(parents=True, exist_ok=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except Refusal as refusal:
            response = _error(refusal.code, str(refusal))
        except StoreError as error:
            response = _error(503, str(error), {"Retry-After": str(RETRY_AFTER_S)})
        except OSError as error:
            response = _error(507, f"Cannot be stored: {error.strerror}; is the disk full?")
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        await _in_thread(lambda: self._gate.identify(request.headers.get("authorization", "")))
        path = str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
        name = path.removeprefix(f"/{PREFIX}").strip("/")
        if request.method == "POST" and name == "delete_many":
            return await self._delete_many(await _list(request))
        if request.method == "POST" and not name:
            return JSONResponse(await self._upload(request))
        if request.method in ("GET", "HEAD"):
            return self._download(self._path(name))
        if request.method == "DELETE":
            await _in_thread(lambda: self._delete(self._path(name)))
            return JSONResponse({"deleted": name})
        return _error(405, f"{request.method} is not possible here")

    def _download(self, path: Path) -> Response:
        if not path.is_file():
            raise Refusal(404, 0, "No such file")
        return FileResponse(path, headers=SAFE)

    def _delete(self, path: Path) -> None:
        try:
            path.unlink()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise Refusal(404, 0, "No such file") from error
        self._remove_empty(path.parent)

    def _remove_empty(self, folder: Path) -> None:
        with contextlib.suppress(OSError):  # not empty, or somebody who deleted its last file too was faster
            while folder != self._directory:
                folder.rmdir()
                folder = folder.parent

    async def _delete_many(self, body: bytes) -> Response:
        """{"files": [paths or URLs]}: what was deleted and what could not be."""
        try:
            names = orjson.loads(body)["files"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise Refusal(400, 800, 'expected {"files": [...]}') from error
        deleted: dict[str, str] = {}
        errors: dict[str, str] = {}
        for name in names if isinstance(names, list) else []:
            try:
                path = self._path(unquote(urlsplit(str(name)).path).strip("/").removeprefix(f"{PREFIX}/"))
                await _in_thread(lambda path=path: self._delete(path))  # type: ignore[misc]
                deleted[str(name)] = "file"
            except Refusal as refusal:
                errors[str(name)] = str(refusal)
        return JSONResponse({"deleted": deleted, "errors": errors})

    async def _upload(self, request: Request) -> list[str]:
        form = _Form(request.headers.get("content-type", ""), self._incoming, self._path)
        try:
            async for chunk in request.stream():
                form.feed(chunk)
                if form.waiting_bytes >= WRITE_AT_ONCE:
                    await _in_thread(form.flush)
            return await _in_thread(form.finish)
        finally:
            await _in_thread(form.discard)

    def _path(self, name: str) -> Path:
        """Where a file of that name lies.

        Raises:
            Refusal: 400, the name leads out of the directory or is none.
        """
        parts = [part for part in name.split("/") if part not in ("", ".")]
        bad = not parts or parts[0] == INCOMING or ".." in parts or "\x00" in name
        if bad or any(len(part.encode(errors="replace")) > LONGEST_PART for part in parts):
            raise Refusal(400, 800, f"Not a path of a file here: {name[:200]!r}")
        path = self._directory.joinpath(*parts)
        if len(str(path).encode(errors="replace")) > LONGEST_PATH:
            raise Refusal(400, 800, f"Too long for a path of a file here: {name[:200]!r}")
        if not path.resolve().is_relative_to(self._directory):  # through a link that somebody put there
            raise Refusal(400, 800, f"Not a path of a file here: {name[:200]!r}")
        return path


class _Form:
    """A multipart body on its way to disk. Parsing happens where `feed` is called, disk work in `flush` and `finish`."""

    def __init__(self, content_type: str, incoming: Path, path_of: Callable[[str], Path]) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise Refusal(400, 800, "expected a multipart/form-data body")
        self._incoming = incoming
        self._path_of = path_of
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._work: list[tuple[str, bytes]] = []  # ("open", name), ("data", bytes), ("close", b""), in order
        self._open: tuple[str, Path, BinaryIO] | None = None
        self._whole: list[tuple[str, Path]] = []
        self._is_ended = False
        self.waiting_bytes = 0
        callbacks: Any = {
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_part,
            "on_part_data": self._on_data,
            "on_part_end": lambda: self._work.append(("close", b"")),
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(options[b"boundary"], callbacks)

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Refusal(400, 800, f"Body cannot be read as multipart/form-data: {error}") from error

    def flush(self) -> None:
        """To disk, what has come so far."""
        work, self._work, self.waiting_bytes = self._work, [], 0
        for kind, data in work:
            if kind == "open":
                name = data.decode("utf-8", "replace").strip("/").removeprefix(f"{PREFIX}/")
                self._path_of(name)  # refuse before the bytes come
                temporary = self._incoming / new_id()
                self._open = (name, temporary, temporary.open("wb"))
            elif self._open is not None and kind == "data":
                self._open[2].write(data)
            elif self._open is not None:
                name, temporary, file = self._open
                file.flush()
                os.fsync(file.fileno())
                file.close()
                self._whole.append((name, temporary))
                self._open = None

    def finish(self) -> list[str]:
        """Give the whole files their names; these, without a leading slash."""
        self.flush()
        if not self._is_ended:
            raise Refusal(400, 800, "The body ends before its last boundary")
        stored = []
        while self._whole:
            name, temporary = self._whole[0]
            target = self._path_of(name)
            try:
                _give_name(temporary, target)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise Refusal(409, 0, f"A file is in the way of a directory, or the reverse: {name!r}") from error
            stored.append("/".join(p for p in name.split("/") if p))
            self._whole.pop(0)
        return stored

    def discard(self) -> None:
        """Whatever was not given its name."""
        if self._open is not None:
            self._open[2].close()
        for temporary in [t for _, t in self._whole] + ([self._open[1]] if self._open else []):
            temporary.unlink(missing_ok=True)

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _on_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._headers = {}
        if not options.get(b"name"):
            raise Refusal(400, 800, "A part has no name: it is named by the path to store it under")
        self._work.append(("open", options[b"name"]))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._work.append(("data", data[start:end]))
        self.waiting_bytes += end - start

    def _on_end(self) -> None:
        self._is_ended = True


def _give_name(temporary: Path, target: Path) -> None:
    """Whoever deletes the last file beside it takes the folder away, perhaps between its making and its use.

    Raises:
        OSError: it cannot be had.
    """
    for _ in range(MOST_TRIES):
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            temporary.replace(target)
            return
    temporary.replace(target)


async def _list(request: Request) -> bytes:
    """The whole body, which is a list of names.

    Raises:
        Refusal: 413, no list of names is so long.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_LIST:
            raise Refusal(413, 0, f"Body is larger than {LARGEST_LIST} bytes; delete them in parts")
    return bytes(body)


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def _error(code: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status_code=code, headers=headers)
