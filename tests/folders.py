"""What lies below a folder in which somebody is still at work: what goes away while it is looked at was not there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """All files, in any depth. Unlike `Path.rglob`, a folder that goes away meanwhile is no error."""
    for place, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(place, name)).is_file())


def holding(folder: Path, *texts: str) -> Sequence[Path]:
    """The files below it in which one of these texts stands."""
    return [path for path in files_below(folder) if any(text.encode() in contents(path) for text in texts)]


def contents(path: Path) -> bytes:
    """Of a file; nothing if it is gone."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
