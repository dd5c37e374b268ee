"""A task's console on disk, between the pipe and the server: written by one thread, read by another.

However long the server is away, the task is not blocked, no line is lost or reordered, and memory does not grow.
Segments that the server has are deleted, so a task may log for months. A spool that is opened again, by a supervisor
that follows one that was killed, goes on where the server was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fleet.queues.base import LogLine

SEGMENT_BYTES = 4 * 1024 * 1024
HEAD = struct.Struct("<QI")  # milliseconds since 1970, bytes of text
PLACE = struct.Struct("<QQ")  # segment and offset from which on the server has nothing


class Spool:
    """Pieces of text with their times, first in, first out. Safe between its writers (what a task prints, what is said of it)
    and one reader."""

    def __init__(self, directory: Path) -> None:
        """Raises:
        OSError: no room on the disk, or no file descriptor left; what was there is there, and nothing more.
        """
        self._directory = directory
        self._lock = threading.Lock()
        self._lost_bytes = 0
        is_new = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self._read_segment, self._read_offset = _place(directory)
            self._write_segment = max(
                [self._read_segment, *(int(p.name) for p in directory.iterdir() if p.name.isdecimal())]
            )
            self._out, self._in = self._both()
        except OSError:
            if is_new:  # the next task that is not claimed for this would leave another one
                _forget_empty(directory)
            raise
        self._write_size, self._last_ms = _end_of(self._out)
        os.ftruncate(self._out, self._write_size)  # half a piece: whoever wrote it was killed
        self._batch_bytes = 0

    @property
    def last_at(self) -> datetime | None:
        """When the newest piece was read; None: there is none."""
        return datetime.fromtimestamp(self._last_ms / 1000, UTC) if self._last_ms else None

    def append(self, at: datetime, text: str) -> None:
        """Add a piece. Times are made to grow, because the server orders by milliseconds alone.

        A full disk loses pieces, and says so with the next one that can be written: the task must not wait for it.
        """
        size = len(text.encode())
        with self._lock:
            if self._lost_bytes:
                text = f"### fleet: {self._lost_bytes} bytes of output are missing here: the disk was full ###\n{text}"
            self._last_ms = max(int(at.timestamp() * 1000), self._last_ms + 1)
            content = text.encode()
            try:
                self._write(HEAD.pack(self._last_ms, len(content)) + content)
                self._lost_bytes = 0
            except OSError:
                self._lost_bytes += size

    def peek(self, limit_bytes: int) -> tuple[LogLine, ...]:
        """The oldest pieces, about so many bytes and at least one; again the same ones until `confirm`. Empty: no more."""
        with self._lock:
            self._go_on()
            data = os.pread(self._in, max(limit_bytes, HEAD.size), self._read_offset)
            if len(data) >= HEAD.size:
                _, length = HEAD.unpack_from(data)
                if len(data) < HEAD.size + length:  # one piece longer than the limit
                    data = os.pread(self._in, HEAD.size + length, self._read_offset)
            lines, self._batch_bytes = _unpack(data)
            return lines

    def confirm(self) -> None:
        """The server has what the last `peek` showed."""
        with self._lock:
            self._read_offset += self._batch_bytes
            self._batch_bytes = 0
            self._note_place()
            self._go_on()

    def remove(self) -> None:
        """Close and delete all of it."""
        with self._lock:
            os.close(self._out)
            os.close(self._in)
            shutil.rmtree(self._directory, ignore_errors=True)

    def _write(self, record: bytes) -> None:
        """All of the record, or nothing of it."""
        if self._write_size >= SEGMENT_BYTES:
            new = self._open(self._write_segment + 1, os.O_WRONLY | os.O_CREAT)
            os.close(self._out)
            self._out, self._write_segment, self._write_size = new, self._write_segment + 1, 0
        written = 0
        try:
            while written < len(record):
                written += os.pwrite(self._out, record[written:], self._write_size + written)
        except OSError:
            os.ftruncate(self._out, self._write_size)
            raise
        self._write_size += len(record)

    def _go_on(self) -> None:
        """To the next segment, when all of this one was sent. The segment that is written to may get more."""
        while self._read_segment < self._write_segment and not os.pread(self._in, 1, self._read_offset):
            sent = self._path(self._read_segment)
            following = self._open(self._read_segment + 1, os.O_RDONLY | os.O_CREAT)  # fails with nothing changed
            os.close(self._in)
            self._in, self._read_segment, self._read_offset = following, self._read_segment + 1, 0
            self._note_place()  # before the old one goes, or whoever opens it again would look for it
            sent.unlink(missing_ok=True)

    def _note_place(self) -> None:
        """For whoever opens it again. On a disk that is full it stays behind: lines are then sent twice, none is lost."""
        with contextlib.suppress(OSError):
            with open(
                os.open(self._directory / "sent.part", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb"
            ) as file:
                file.write(PLACE.pack(self._read_segment, self._read_offset))
            (self._directory / "sent.part").replace(self._directory / "sent")

    def _both(self) -> tuple[int, int]:
        """What is written to, and what is read from."""
        out = self._open(self._write_segment, os.O_RDWR | os.O_CREAT)
        try:
            return out, self._open(self._read_segment, os.O_RDONLY | os.O_CREAT)
        except OSError:
            os.close(out)
            raise

    def _open(self, segment: int, flags: int) -> int:
        return os.open(self._path(segment), flags | os.O_CLOEXEC, 0o600)

    def _path(self, segment: int) -> Path:
        return self._directory / f"{segment:06}"


def _forget_empty(directory: Path) -> None:
    """As it was made: to look into it would take a file descriptor."""
    with contextlib.suppress(OSError):
        (directory / f"{0:06}").unlink(missing_ok=True)
        directory.rmdir()


def _place(directory: Path) -> tuple[int, int]:
    """Where the server's part ends; the beginning, if nothing was sent yet."""
    try:
        segment, offset = PLACE.unpack((directory / "sent").read_bytes())
    except (OSError, struct.error):
        return min((int(p.name) for p in directory.iterdir() if p.name.isdecimal()), default=0), 0
    return segment, offset


def _end_of(file: int) -> tuple[int, int]:
    """The bytes of the whole pieces in a segment, and the time of the last one in milliseconds."""
    end, last_ms, size = 0, 0, os.fstat(file).st_size
    while end + HEAD.size <= size:
        at_ms, length = HEAD.unpack(os.pread(file, HEAD.size, end))
        if end + HEAD.size + length > size:
            break
        end, last_ms = end + HEAD.size + length, at_ms
    return end, last_ms


def _unpack(data: bytes) -> tuple[tuple[LogLine, ...], int]:
    """The whole pieces in `data`, and how many bytes they take."""
    lines, used = [], 0
    for at_ms, start, end in _records(data):
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        lines.append(LogLine(at=at, text=data[start:end].decode()))
        used = end
    return tuple(lines), used


def _records(data: bytes) -> Iterator[tuple[int, int, int]]:
    start = 0
    while start + HEAD.size <= len(data):
        at_ms, length = HEAD.unpack_from(data, start)
        start += HEAD.size
        if start + length > len(data):
            return
        yield at_ms, start, start + length
        start += length
