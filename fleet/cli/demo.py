"""`fleet demo`: ClearML's toy example, live, on this machine alone."""

from __future__ import annotations

import typer

from fleet.cli.options import JsonOption


def add_to(app: typer.Typer) -> None:
    app.command()(demo)


def demo(as_json: JsonOption = False) -> None:
    """See it all happen, on simulated GPUs, in a minute.

    Five tasks through the real SDK, server, dispatcher, supervisors and agents. Spends nothing.
    """
    from fleet.demo.play import play

    raise typer.Exit(play(as_json))
