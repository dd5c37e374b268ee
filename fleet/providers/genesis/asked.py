"""Launches that were asked for, on disk before the call: the API has no client token, so this is how one intent stays one machine.

A call whose answer was lost may still take effect for a while. Until `SETTLED_S` have passed the machine is only looked for; then, if no
list shows it, it is asked for again. Should both come to be, the one that was answered is the intent's, the other an orphan.
"""

from __future__ import annotations

import functools
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from fleet.errors import UnknownProviderFault

SETTLED_S = 60.0
KEEP_S = 7 * 86400


class Asked:
    """One small file for each intent, in the provider's directory."""

    def __init__(self, directory: Path, settled_s: float = SETTLED_S) -> None:
        self.directory, self.settled_s = directory / "asked", settled_s

    def is_settled(self, instance: str) -> bool:
        """Whether no call for this intent can still take effect without our knowing."""
        said = self._read(instance)
        # A clock that is set meanwhile must not shorten the wait: within one boot the time since boot counts.
        is_same_boot = said.get("boot") == _boot()
        at, now = (said.get("boot_s"), _since_boot_s()) if is_same_boot else (said.get("at"), time.time())
        return not isinstance(at, int | float) or not 0 <= now - at < self.settled_s

    def cloud_id(self, instance: str) -> str | None:
        """The machine that was answered for this intent."""
        found = self._read(instance).get("cloud_id")
        return found if isinstance(found, str) else None

    def note(self, instance: str, cloud_id: str | None = None) -> None:
        """It is about to be asked for; or it was answered. On disk when this returns.

        Raises:
            UnknownProviderFault: the disk does not take it; the call must not be made.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._forget_the_old()
            part = self.directory / f"{instance}.part"
            with part.open("w") as file:
                json.dump({**_moment(), "cloud_id": cloud_id}, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.directory / instance)
        except OSError as error:
            raise UnknownProviderFault(
                f"{self.directory} cannot be written, so nothing is launched: {error}"
            ) from error

    def refused(self, instance: str) -> None:
        """The cloud said no: nothing can come of it."""
        (self.directory / instance).unlink(missing_ok=True)

    def _read(self, instance: str) -> dict[str, object]:
        try:
            said = json.loads((self.directory / instance).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError):
            return _moment()  # whole or not at all: somebody touched it; look before asking again
        return said if isinstance(said, dict) else {}

    def _forget_the_old(self) -> None:
        for path in self.directory.iterdir():
            with suppress(FileNotFoundError):  # others write here at the same time
                if time.time() - path.stat().st_mtime > KEEP_S:
                    path.unlink()


def _moment() -> dict[str, object]:
    return {"at": time.time(), "boot": _boot(), "boot_s": _since_boot_s()}


@functools.cache
def _boot() -> str:
    """A name of this boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _since_boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
