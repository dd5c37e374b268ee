"""A proxy on loopback that counts the calls that pass through it, by the process that makes them and by endpoint."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

READ_BYTES = 64 * 1024
REQUEST_LINE = re.compile(rb"(?:^|\r?\n|\})(?:GET|POST|PUT) (?:/v\d[\d.]*)?/([^ ?]+)[^ ]* HTTP/1\.1\r\n")


class Proxy:
    """`calls` grows while it runs. It reads, and changes nothing."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self.calls: Counter[tuple[int, str]] = Counter()

    async def serve(self, is_ready: threading.Event, is_over: asyncio.Event) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        is_ready.set()
        async with server:
            await is_over.wait()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid = await asyncio.to_thread(_owner_of, writer.get_extra_info("peername")[1])
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._copy(reader, back_writer, pid), self._copy(back_reader, writer, None))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int | None) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(READ_BYTES):
                if pid is not None:
                    self.calls.update((pid, name.decode()) for name in REQUEST_LINE.findall(data))
                writer.write(data)
                await writer.drain()
        writer.close()


def _owner_of(port: int) -> int:
    """The process that connects from this port; 0 if it is not ours to see."""
    ends = psutil.net_connections("tcp")
    return next((end.pid or 0 for end in ends if end.laddr and end.laddr.port == port), 0)


@contextmanager
def counting() -> Iterator[Proxy]:
    """A proxy in a thread of its own. Set `target` to the port that it stands before."""
    proxy, is_ready = Proxy(), threading.Event()
    loop, is_over = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(is_ready, is_over),))
    thread.start()
    is_ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
