"""Rows of a CSV file that somebody else wrote: what cannot be meant is refused with its row, and nothing is left out in silence."""

from __future__ import annotations

import csv
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from fleet.errors import ConfigError

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
MOST_NAMED = 8  # columns that a line shows


def read_rows(
    path: Path, needed: Sequence[str], what: str, and_more: str = ""
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Each row by its columns, without space around, with its number as an editor counts lines.

    `what`: "a trace", for what is said; `and_more`: what else such a file may have.

    Raises:
        ConfigError: the file or its head cannot be read, or a row has more cells than the head.
    """
    try:
        if stat.S_ISCHR(path.stat().st_mode):
            raise ConfigError(f"{path}: cannot be read as {what}: it is a device, which has no end")
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from _rows(path, file, needed, what, and_more)
    except UnicodeError as error:
        raise ConfigError(f"{path}: cannot be read as {what}: it is not text in UTF-8; is it compressed?") from error
    except (OSError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as {what}: {getattr(error, 'strerror', None) or error}") from error


def _rows(
    path: Path, file: IO[str], needed: Sequence[str], what: str, and_more: str
) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.reader(file, strict=True, skipinitialspace=True)
    head = [name.strip() for name in next(reader, [])]
    if missing := [name for name in needed if name not in head]:
        raise ConfigError(
            f"{path}: no column {', '.join(missing)}{_cause(head)}; {what} has {', '.join(needed)}{and_more}"
        )
    if twice := [name for n, name in enumerate(head) if name and name in head[:n]]:
        raise ConfigError(f"{path}: column {twice[0]} is there twice; leave one of them")
    for cells in reader:
        if len(cells) > len(head) and any(cells[len(head) :]):
            raise ConfigError(
                f"{path}, row {reader.line_num}: it has {len(cells)} cells, and the head has {len(head)}; a number is written "
                "with a point, a text with a comma between quotes"
            )
        if cells:
            yield reader.line_num, {name: cell.strip() for name, cell in zip(head, cells, strict=False)}


def _cause(head: Sequence[str]) -> str:
    """Why nothing was found, where that can be seen."""
    if not any(head):
        return " (it is empty)"
    for mark, name in SEPARATORS.items():
        if len(head) == 1 and mark in head[0]:
            return f" (its columns are separated by {name}, and not by commas)"
    shown = ", ".join(name[:40] for name in head[:MOST_NAMED])
    return f" (it has {shown}{', ...' if len(head) > MOST_NAMED else ''})"
