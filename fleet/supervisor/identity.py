"""Who this machine is, in memory that a restart of the supervisor survives and a reboot does not.

A join token works once. What it was exchanged for (the edge token, the server's credentials, the settings) and the times that
deadlines are counted from stay in a tmpfs, for their owner alone, so that a supervisor that was killed goes on as the same machine,
and no deadline begins anew. On any other file system nothing is kept: secrets are not written to a disk.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fleet.errors import WireError
from fleet.supervisor.private import is_in_memory, is_ours_alone, write_private
from fleet.wire import Enrolled, from_data, to_data

log = logging.getLogger(__name__)
T = TypeVar("T")

IDENTITY, TIMES = "identity.json", "times.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """In seconds since boot (CLOCK_BOOTTIME): what a clock that is set right cannot move."""

    enrolled_s: float
    server_s: float  # last contact
    centre_s: float
    idle_s: float | None  # since when; None: it holds a task
    has_started_up: bool = False  # the hooks of its start have run


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    boot: str
    enrolled: Enrolled


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    boot: str
    times: Times


class Identity:
    """The two files of one machine."""

    def __init__(self, private: Path) -> None:
        """`private`: the machine's private directory. Where it is on a disk nothing is kept, and nothing is found."""
        self._place = private if is_in_memory(private) else None
        self._boot = BOOT_ID.read_text().strip()
        if self._place is None:
            log.warning(
                "identity not kept: after a restart the dispatcher will refuse this machine", extra={"on_disk": private}
            )

    def enrolled(self) -> Enrolled | None:
        """As this machine was enrolled since its last boot; None: it was not, or nobody remembers."""
        known = self._read(IDENTITY, _Known)
        return known.enrolled if known and known.boot == self._boot else None

    def times(self) -> Times | None:
        counted = self._read(TIMES, _Counted)
        return counted.times if counted and counted.boot == self._boot else None

    def keep_enrolled(self, enrolled: Enrolled) -> bool:
        """False: what was kept before is still what the next supervisor would find."""
        return self._write(IDENTITY, _Known(boot=self._boot, enrolled=enrolled))

    def keep_times(self, times: Times) -> None:
        self._write(TIMES, _Counted(boot=self._boot, times=times))

    def forget(self) -> None:
        """This machine ends: nobody shall speak for it any more."""
        if self._place:
            for name in (IDENTITY, TIMES):
                (self._place / name).unlink(missing_ok=True)

    def _write(self, name: str, value: object) -> bool:
        if self._place is None:
            return True
        try:
            write_private(self._place / name, json.dumps(to_data(value)))
        except OSError as error:
            log.warning("identity not kept", extra={"why": f"{self._place / name}: {error.strerror}"})
            return False
        return True

    def _read(self, name: str, kind: type[T]) -> T | None:
        if self._place is None:
            return None
        path = self._place / name
        try:
            if not is_ours_alone(path):
                log.warning("identity not used", extra={"why": f"{path} is not a file that is ours alone"})
                return None
            return from_data(kind, json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, WireError) as error:
            log.warning("identity not used", extra={"why": f"{path} cannot be read: {error}"})
            return None
