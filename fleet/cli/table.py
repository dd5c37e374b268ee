"""Plain tables for a terminal, at most 100 columns. By hand, because importing a table library takes longer than the command."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime

WIDTH = 100
NARROWEST = 40
LEAST_TEXT = 8  # columns that a text keeps when its table gets too wide


def table(
    head: Sequence[str], rows: Sequence[Sequence[object]], keep: Sequence[str] = (), width: int | None = None
) -> str:
    """Left-aligned columns under their heads; numbers right-aligned.

    When it gets wider than `width` (default: the terminal's, 100 at most) the widest text gives way first. Columns named in
    `keep` hold ids that people copy: they are never cut, the table then gets too wide instead.
    """
    cells = [[_text(c) for c in row] for row in rows]
    widths = [max([len(h), *(len(row[n]) for row in cells)]) for n, h in enumerate(head)]
    is_number = [bool(rows) and all(isinstance(row[n], int | float) for row in rows) for n in range(len(head))]
    may_shrink = [n for n, h in enumerate(head) if h not in keep and not is_number[n]]
    too_much = sum(widths) + 2 * (len(widths) - 1) - (width or columns())
    while too_much > 0 and may_shrink:
        widest = max(may_shrink, key=lambda n: widths[n])
        if widths[widest] <= max(LEAST_TEXT, len(head[widest])):
            break
        widths[widest] -= 1
        too_much -= 1
    lines = [_line([h.upper() for h in head], widths, is_number)]
    lines += [_line(row, widths, is_number) for row in cells]
    return "\n".join(lines)


def columns() -> int:
    """How wide a table may get: the terminal, between 40 and 100; 100 where there is none."""
    if not sys.stdout or not sys.stdout.isatty():
        return WIDTH
    return min(max(shutil.get_terminal_size((WIDTH, 24)).columns, NARROWEST), WIDTH)


def age(seconds: float | None) -> str:
    """A span for people: 42s, 7m, 3h12m, 5d."""
    if seconds is None:
        return "-"
    whole = int(max(seconds, 0))
    if whole < 120:
        return f"{whole}s"
    if whole < 7200:
        return f"{whole // 60}m"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m" if whole < 172800 else f"{whole // 86400}d"


def money(usd: float | None) -> str:
    """US dollars for people; `?` when unknown."""
    return "?" if usd is None else f"${usd:.2f}"


def local_time(text: object) -> str:
    """A time of the API as people here read it, with its offset so that it can be mistaken for no other."""
    try:
        return f"{datetime.fromisoformat(str(text)).astimezone():%Y-%m-%d %H:%M:%S%z}"
    except ValueError:
        return str(text)


def printable(text: object) -> str:
    """On one line, without what would move the cursor: names and reasons come from other people."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:g}" if isinstance(cell, float) else printable(cell)


def _line(cells: Sequence[str], widths: Sequence[int], is_number: Sequence[bool]) -> str:
    shown = []
    for cell, width, right in zip(cells, widths, is_number, strict=True):
        fitted = cell if len(cell) <= width else cell[: max(width - 1, 0)] + "…"
        shown.append(fitted.rjust(width) if right else fitted.ljust(width))
    return "  ".join(shown).rstrip()
