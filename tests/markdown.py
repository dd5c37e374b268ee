"""Markdown as far as tests read it: tables below headings, fenced blocks, links and what they may point at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: the heading that it stands below, its head, its rows as cells."""

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Page:
    """One file."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.prose = re.sub(r"^```.*?^```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    def tables(self, heading: str | None = None) -> tuple[Table, ...]:
        """All tables, or those right below one heading."""
        found, here, lines = [], "", []
        for line in [*self.prose.splitlines(), ""]:
            if line.startswith("|"):
                lines.append(line)
                continue
            if lines:
                cells = [tuple(cell.strip() for cell in each.strip("|").split("|")) for each in lines]
                found.append(Table(heading=here, head=cells[0], rows=tuple(cells[2:])))
                lines = []
            if line.startswith("#"):
                here = line.lstrip("#").strip()
        return tuple(table for table in found if heading in (None, table.heading))

    def rows(self, heading: str) -> dict[str, tuple[str, ...]]:
        """The rows of the tables below a heading, by the name in their first cell. A name that comes twice is an error."""
        rows: dict[str, tuple[str, ...]] = {}
        for table in self.tables(heading):
            for row in table.rows:
                name = row[0].strip("`")
                assert name not in rows, f"{heading}: {name} is there twice"
                rows[name] = row
        assert rows, f"there is no table below {heading!r}"
        return rows

    def section(self, heading: str) -> str:
        """The text below a heading of the second level, up to the next."""
        (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", self.text, re.DOTALL | re.MULTILINE)
        return str(found)

    def blocks(self, kind: str) -> tuple[str, ...]:
        """The fenced blocks of this kind."""
        return tuple(re.findall(rf"^```{kind}\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE))

    @property
    def links(self) -> tuple[str, ...]:
        return tuple(re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", self.prose))

    @property
    def anchors(self) -> frozenset[str]:
        """What `#...` may name: headings as the forges write them."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return frozenset(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings)


def names(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)
