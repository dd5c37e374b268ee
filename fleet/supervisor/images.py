"""The images of a machine: which are here, and which go when the disk fills.

Removed are only images that tasks of ours have used, the one that was used longest ago first; never the default one, never
one that a container (anybody's) is made of. What else is on the machine belongs to whoever put it there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import psutil

from fleet.supervisor.engine import Engine, EngineFault

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0  # whether an image that has to wait for another is wanted still
MOST_KNOWN = 1000  # names in the record; what others have removed is found out only when the disk fills


class Images:
    """`record` is where it is kept when an image was last used, also for the next supervisor of this machine."""

    def __init__(self, engine: Engine, default: str, prune_above: float, record: Path) -> None:
        self._engine, self._default, self._prune_above, self._record = engine, default, prune_above, record
        self._lock = threading.Lock()  # of the record, and of what is removed
        self._kept: Counter[str] = Counter()  # names that tasks are about to use
        self._pulling = threading.Lock()  # one at a time: two of the same would wait for each other anyway
        self._pulled_at: dict[str, float] = {}  # monotonic
        self._used_at = _read(record)

    def have(self, name: str, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Pull an image unless it is here. `goes_on` False: leave off.

        Raises:
            EngineFault: it is not here and cannot be had.
        """
        if self._engine.image(name) is not None:
            return
        while not self._pulling.acquire(timeout=LOOK_EVERY_S):  # another may take many minutes
            _refuse_unless(goes_on(), name)
        try:
            if self._engine.image(name) is None:
                self._pull(name, goes_on)
        finally:
            self._pulling.release()

    @contextlib.contextmanager
    def kept(self, name: str) -> Iterator[None]:
        """Meanwhile it is not removed: between the look whether it is here and its container's making it is in no use yet."""
        with self._lock:
            self._kept[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._kept -= Counter([name])  # without those that nobody keeps

    def pull(self, name: str) -> None:
        """Have the newest image under this name. Who wants it meanwhile waits for it.

        Raises:
            EngineFault: it cannot be had; one that was here before still is.
        """
        asked_at = time.monotonic()
        with self._pulling:
            if self._pulled_at.get(name, asked_at) <= asked_at:  # else a task has had it pulled while this one waited
                self._pull(name)

    def _pull(self, name: str, goes_on: Callable[[], bool] = lambda: True) -> None:
        self.make_room()
        log.info("image is pulled", extra={"image": name})
        started = time.monotonic()
        for _ in self._engine.pull(name):
            _refuse_unless(goes_on(), name)
        self._pulled_at[name] = time.monotonic()
        log.info("image was pulled", extra={"image": name, "seconds": round(time.monotonic() - started, 1)})

    def use(self, name: str) -> None:
        """A task of ours uses it now."""
        with self._lock:
            self._used_at[name] = time.time()
            self._used_at = newest(self._used_at)
            _write(self._record, self._used_at)

    def make_room(self) -> None:
        """Remove what `to_remove` says until the engine's disk is below the limit, or nothing is left to remove."""
        with contextlib.suppress(EngineFault, OSError):
            place = self._engine.place()
            if not self._is_full(place):
                return
            in_use = self._engine.images_in_use()
            with self._lock:
                known = dict(self._used_at)
            here = {name: str(data["Id"]) for name in known if (data := self._engine.image(name))}
            self._forget(known.keys() - here.keys())  # somebody else has removed them
            for name in to_remove(known, here, in_use, self._default):
                self._remove(name)
                if not self._is_full(place):
                    return

    def _is_full(self, place: str) -> bool:
        return psutil.disk_usage(place).percent / 100 >= self._prune_above

    def _remove(self, name: str) -> None:
        with contextlib.suppress(EngineFault):
            with self._lock:  # whoever wants it now waits, and finds that it is gone
                if name in self._kept:
                    return
                self._engine.remove_image(name)
            log.info("image removed", extra={"image": name, "why": f"disk above {self._prune_above:.0%}"})
            self._forget([name])

    def _forget(self, names: Collection[str]) -> None:
        with self._lock:
            for name in names:
                self._used_at.pop(name, None)
            if names:
                _write(self._record, self._used_at)


def _refuse_unless(is_wanted: bool, name: str) -> None:
    if not is_wanted:
        raise EngineFault(f"docker: {name} was not pulled to its end: nobody wants it any more")


def to_remove(
    used_at: Mapping[str, float], here: Mapping[str, str], in_use: Collection[str], default: str
) -> Iterable[str]:
    """PURE: names of images that may go, the one that was used longest ago first. `here`: ids by name; `in_use`: ids."""
    spared = {here.get(default), *in_use}
    free = [name for name, id_ in here.items() if id_ not in spared and name != default]
    return sorted(free, key=lambda name: (used_at.get(name, 0.0), name))


def newest(used_at: Mapping[str, float]) -> dict[str, float]:
    """PURE: the record without those that were used longest ago, where there are too many."""
    if len(used_at) <= MOST_KNOWN:
        return dict(used_at)
    return dict(sorted(used_at.items(), key=lambda each: each[1])[-MOST_KNOWN:])


def _read(record: Path) -> dict[str, float]:
    try:
        data = json.loads(record.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {str(name): float(at) for name, at in data.items() if isinstance(at, int | float)}


def _write(record: Path, used_at: Mapping[str, float]) -> None:
    new = record.with_suffix(".new")
    with contextlib.suppress(OSError):  # a full disk: the order of removal is a little worse
        new.write_text(json.dumps(dict(used_at)))
        os.replace(new, record)
