"""Plain tables for a terminal, at most 100 columns. By hand, because importing a table library takes longer than the command."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 100


def table(head: Sequence[str], rows: Sequence[Sequence[object]], width: int = WIDTH) -> str:
    """Left-aligned columns under their heads; numbers right-aligned; the widest text column gives way when it gets too wide."""
    cells = [[_text(c) for c in row] for row in rows]
    widths = [max([len(h), *(len(row[n]) for row in cells)]) for n, h in enumerate(head)]
    too_much = sum(widths) + 2 * (len(widths) - 1) - width
    while too_much > 0:
        widest = max(range(len(widths)), key=lambda n: widths[n])
        cut = min(too_much, max(widths[widest] - 12, 1))
        widths[widest] -= cut
        too_much -= cut
    is_number = [bool(rows) and all(isinstance(row[n], int | float) for row in rows) for n in range(len(head))]
    lines = [_line([h.upper() for h in head], widths, is_number)]
    lines += [_line(row, widths, is_number) for row in cells]
    return "\n".join(lines)


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


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:g}" if isinstance(cell, float) else str(cell).replace("\n", " ")


def _line(cells: Sequence[str], widths: Sequence[int], is_number: Sequence[bool]) -> str:
    shown = []
    for cell, width, right in zip(cells, widths, is_number, strict=True):
        fitted = cell if len(cell) <= width else cell[: max(width - 1, 0)] + "…"
        shown.append(fitted.rjust(width) if right else fitted.ljust(width))
    return "  ".join(shown).rstrip()
