"""Files that are written whole or not at all, and never over one that was read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from fleet.errors import ConfigError


def write_whole(path: Path, content: bytes) -> None:
    """A reader finds the old file or the new one, never half of one. What is no file (a pipe, a terminal) is written to as it is.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    target = path.resolve()  # a link stays one
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, target)
        except OSError:
            os.unlink(file.name)
            raise


def refuse_inputs(option: str, path: Path | None, inputs: Iterable[Path | None]) -> None:
    """
    Raises:
        ConfigError: what is to be written is one of these files, that are read.
    """
    if path is None or not path.exists():
        return
    for each in inputs:
        if each is not None and each.exists() and path.samefile(each):
            raise ConfigError(
                f"{option} {path}: is a file that is read here, and would be overwritten; name another one"
            )
