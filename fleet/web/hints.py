"""Hints that work may wait: a number that grows. Supervisors listen for it by long polls that hold no thread.

A hint is never the truth: who misses one finds the same work, or order, at its next poll.
"""

from __future__ import annotations

import asyncio
import threading


class Hints:
    """The number, and those who wait for a newer one. `bump` from any thread; `wait` in any event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seq = 0
        self._is_closed = False
        # One future for all who wait in one loop: a bump costs the same for one waiter and for thousands.
        self._next: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}

    @property
    def seq(self) -> int:
        """The newest hint. Starts at 0 with each process."""
        return self._seq

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def bump(self) -> None:
        """There may be something to do: wake all who wait."""
        with self._lock:
            self._seq += 1
            self._wake()

    def close(self) -> None:
        """Wake all who wait and let nobody wait any more, so that a server can stop at once."""
        with self._lock:
            self._is_closed = True
            self._wake()

    async def wait(self, after: int, timeout_s: float) -> int:
        """The newest hint, as soon as it is not `after`, or after `timeout_s`.

        A listener with a larger number has heard it from a process that is no more: it is answered at once.
        """
        with self._lock:
            if after != self._seq or self._is_closed:
                return self._seq
            loop = asyncio.get_running_loop()
            news = self._next.setdefault(loop, loop.create_future())
        await asyncio.wait([news], timeout=timeout_s)
        return self._seq

    def _wake(self) -> None:
        for loop, news in self._next.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, news)
        self._next.clear()


def _finish(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)
