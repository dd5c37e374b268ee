"""Signs of life for those who watch over this process: systemd's watchdog, and a stamp that a timer of ours reads.

Without `NOTIFY_SOCKET` and `FLEET_ALIVE_FILE` in the environment nobody watches, and every sign is free.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import MutableMapping
from pathlib import Path

# At most so often: systemd is content with two signs in WatchdogSec, and each costs a system call or two.
SIGN_EVERY_S = 10.0


class Signs:
    """Called by the main thread alone: a sign that another thread gives says nothing of the loop."""

    def __init__(self, notify: str | None = None, stamp: Path | None = None) -> None:
        """`notify`: the address of systemd's socket. `stamp`: a file for the seconds since boot at the last sign."""
        self._notify = f"\0{notify[1:]}" if notify and notify.startswith("@") else notify
        self._stamp = stamp
        self._given_at: float | None = None

    def ready(self, status: str = "") -> None:
        """At work from now on."""
        self._say(f"READY=1\nSTATUS={status}")
        self._given_at = None
        self.alive()

    def alive(self) -> None:
        """A turn of the loop is done."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        if self._given_at is not None and now - self._given_at < SIGN_EVERY_S:
            return
        self._given_at = now
        self._say("WATCHDOG=1")
        self._write(int(now))

    def ending(self, status: str = "") -> None:
        """It ends as planned; what comes now may take a while."""
        self._say(f"STOPPING=1\nSTATUS={status}")

    def _say(self, text: str) -> None:
        if self._notify is None:
            return
        # A sign that does not arrive is missed by the one who waits for it: nothing to do here.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to,
        ):
            to.sendto(text.encode(), self._notify)

    def _write(self, seconds: int) -> None:
        if self._stamp is None:
            return
        fresh = self._stamp.with_name(f".{self._stamp.name}")
        with contextlib.suppress(OSError):
            fresh.write_text(f"{seconds}\n")
            fresh.replace(self._stamp)  # whoever reads it finds a whole number


def signs_of(environ: MutableMapping[str, str]) -> Signs:
    """As the environment says, taken out of it: no process of a task shall speak for us."""
    notify, stamp = environ.pop("NOTIFY_SOCKET", None), environ.pop("FLEET_ALIVE_FILE", None)
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        environ.pop(name, None)
    return Signs(notify or None, Path(stamp) if stamp else None)
