"""What a machine shows its dispatcher after a reboot: the token that it was given, on its disk, for its owner alone.

All else that it was told is in memory and gone; the dispatcher tells it again. The token is of this instance, and dies with it: in an
image or a snapshot of the disk it is worth nothing once the machine is gone. Source: docs/adr/0044-reboot.md
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from fleet.supervisor.identity import BOOT_ID
from fleet.supervisor.private import is_ours_alone, write_private

log = logging.getLogger(__name__)

FILE = "comeback.json"


class Comeback:
    """The file of one machine, in the directory that it works in."""

    def __init__(self, directory: Path, instance: str) -> None:
        self._path, self._instance = directory / FILE, instance
        self._boot = BOOT_ID.read_text().strip()
        kept = self._read()
        self.token = kept.get("token")  # None: it was never let in, or nobody remembers
        self.has_rebooted = self.token is not None and kept.get("boot") != self._boot

    def keep(self, token: str) -> None:
        try:
            write_private(
                self._path, json.dumps({"instance": self._instance, "boot": self._boot, "token": token}) + "\n"
            )
        except OSError as error:
            log.warning("a reboot would end this machine", extra={"why": f"{self._path}: {error.strerror}"})

    def forget(self) -> None:
        """This machine ends, also where its disk has become read-only: the token dies with it."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("token not deleted", extra={"why": f"{self._path}: {error.strerror}"})

    def _read(self) -> dict[str, str]:
        try:
            if not is_ours_alone(self._path):
                log.warning("token not used", extra={"why": f"{self._path} is not a file that is ours alone"})
                return {}
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("token not used", extra={"why": f"{self._path} cannot be read: {error}"})
            return {}
        if not isinstance(found, dict) or found.get("instance") != self._instance:
            return {}
        return {name: value for name, value in found.items() if isinstance(value, str)}
