"""Where secrets wait for the container that needs them: files in memory, for their owner alone, gone with the allocation.

Neither a command line nor a container's settings may hold them: every user of the machine reads the one, all who may ask
the engine read the other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path


class Vault:
    """A directory of ours alone (see `private`), with one of its own for each allocation."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep_only(self, marks: Collection[str]) -> None:
        """Drop the files of all other allocations."""
        for place in self._directory.glob("*"):
            if place.name not in marks:
                shutil.rmtree(place, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def place(self, mark: str) -> Path:
        return self._directory / mark

    def put(self, mark: str, files: Mapping[str, str]) -> Path:
        """Write the files of an allocation; their directory.

        Raises:
            OSError: no memory left, or it was there already.
        """
        place = self.place(mark)
        place.mkdir(mode=0o700, parents=True)  # what is in memory may go with its user's last session
        for name, text in files.items():
            with open(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
        return place

    def give(self, mark: str, uid: int) -> None:
        """Let another user of the machine (and of its containers) own the files of an allocation.

        Raises:
            OSError: only root may do that.
        """
        place = self.place(mark)
        for each in (place, *place.iterdir()):
            os.chown(each, uid, -1)

    def drop(self, mark: str) -> None:
        shutil.rmtree(self.place(mark), ignore_errors=True)
