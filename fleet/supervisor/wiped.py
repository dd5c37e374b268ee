"""Deletes what a task left on this machine, also directories that it made read-only: Go's module cache is made of them, and one for each
task would fill the disk of a machine whose supervisor is not root."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def wipe(place: Path) -> None:
    """As much of it as can be deleted. Links in it are deleted and not followed."""
    shutil.rmtree(place, ignore_errors=True)
    if not place.is_dir() or place.is_symlink():
        return
    if (
        os.geteuid() == 0
    ):  # may delete what is read-only too; and what it opened, a task's user might swap for a link meanwhile
        return
    _open(place)
    for above, names, _ in os.walk(place):  # from above: each is opened before it is looked into
        for name in names:
            _open(Path(above, name))
    shutil.rmtree(place, ignore_errors=True)


def _open(directory: Path) -> None:
    with contextlib.suppress(OSError):
        if not directory.is_symlink():
            directory.chmod(0o700)
