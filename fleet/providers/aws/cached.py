"""An answer of a cloud that is read again in the background: a pass never waits for it, but for the first time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from fleet.errors import ProviderError

T = TypeVar("T")
# An account without permission, a cloud that is down: not asked again at each pass.
AFTER_A_FAILURE = timedelta(seconds=30)


class Cached(Generic[T]):
    """`load(at)` at most every `fresh`; an answer is good until `good`, however often loading fails meanwhile."""

    def __init__(self, load: Callable[[datetime], T], *, fresh: timedelta, good: timedelta) -> None:
        self._load, self._fresh, self._good = load, fresh, good
        self._lock = threading.Lock()
        self._value: T | None = None
        self._loaded_at: datetime | None = None
        self._failed_at: datetime | None = None
        self._fault: ProviderError | None = None
        self._worker: threading.Thread | None = None

    def get(self, at: datetime) -> T:
        """The newest answer that is good.

        Raises:
            ProviderError: there is none.
        """
        if self._loaded_at is None or at - self._loaded_at > self._good:
            self._first(at)
        elif at - self._loaded_at > self._fresh and not self._is_failing(at):
            self._in_background(at)
        assert self._value is not None
        return self._value

    @property
    def is_busy(self) -> bool:
        """Whether it is being read right now."""
        return self._worker is not None and self._worker.is_alive()

    def _first(self, at: datetime) -> None:
        if self._is_failing(at):
            assert self._fault
            raise self._fault
        with self._lock:
            self._read(at)
        if self._loaded_at is None or at - self._loaded_at > self._good:
            assert self._fault
            raise self._fault

    def _in_background(self, at: datetime) -> None:
        if not self.is_busy:
            self._worker = threading.Thread(target=self._guarded, args=(at,), name="aws-refresh", daemon=True)
            self._worker.start()

    def _guarded(self, at: datetime) -> None:
        with self._lock:
            self._read(at)

    def _read(self, at: datetime) -> None:
        try:
            self._value = self._load(at)
        except ProviderError as error:
            self._fault, self._failed_at = error, at
        else:
            self._loaded_at, self._failed_at, self._fault = at, None, None

    def _is_failing(self, at: datetime) -> bool:
        return self._failed_at is not None and at - self._failed_at < AFTER_A_FAILURE
