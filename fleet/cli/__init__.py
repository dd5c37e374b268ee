"""The command line: typer, one file a noun. Heavy imports wait until a command needs them."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """fleet turns ClearML queues into GPU machines, and turns the machines off again."""


@app.command()
def version() -> None:
    """Print the version of fleet."""
    from fleet import __version__

    typer.echo(__version__)


def main() -> None:
    """The entry point of the `fleet` command."""
    app()
