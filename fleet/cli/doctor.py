"""`fleet doctor`: what is wrong here, and how to mend it."""

from __future__ import annotations

import json
import textwrap
from typing import Annotated

import typer

from fleet.cli.options import ConfigOption, JsonOption
from fleet.cli.table import columns, printable

NAME = 18  # columns
FixOption = Annotated[bool, typer.Option("--fix", help="Make the queues that the ClearML server does not have.")]


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(config: ConfigOption = None, as_json: JsonOption = False, fix: FixOption = False) -> None:
    """Find what is wrong here, and say how to mend it.

    Looks at the fleet file, this machine, the providers and the ClearML server.
    """
    from fleet.assemble.checks import examine
    from fleet.assemble.loading import load_or_workstation

    checks = []
    for check in examine(lambda: load_or_workstation(config), is_mending=fix):
        checks.append(check)
        if not as_json:
            mark = "ok   " if check.is_fine else "WRONG"
            typer.echo(_folded(f"{mark}  {check.name:<{NAME}}  ", check.found, hang=NAME + 9))
            if not check.is_fine:
                typer.echo(_folded("       fix: ", check.fix, hang=12))
    if as_json:
        typer.echo(
            json.dumps([{"name": c.name, "ok": c.is_fine, "found": c.found, "fix": c.fix} for c in checks], indent=2)
        )
    if not all(c.is_fine for c in checks):
        raise typer.Exit(1)


def _folded(head: str, text: str, hang: int) -> str:
    """As wide as a table; a path or an address stays whole, so that it can be copied."""
    return textwrap.fill(
        printable(text),
        columns(),
        initial_indent=head,
        subsequent_indent=" " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
