"""All commands in one app, and what an error looks like to its user."""

from __future__ import annotations

import os
import sys

import typer

from fleet.cli import centre, config, cost, demo, doctor, events, instances, plan, simulate, status, supervise, tasks
from fleet.errors import FleetError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich would double the time of `fleet --help`
    pretty_exceptions_enable=False,
    help="fleet turns ClearML queues into GPU machines, and turns the machines off again.",
)
for room in (centre, supervise, tasks, status, events, cost, instances, plan, simulate, config, doctor, demo):
    room.add_to(app)


@app.command()
def version() -> None:
    """Print the version of fleet."""
    from fleet import __version__

    typer.echo(__version__)


def main() -> None:
    """The entry point of the `fleet` command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage."""
    try:
        app()
    except FleetError as error:
        typer.echo(f"fleet: {error}", err=True)
        raise SystemExit(1) from None
    except BrokenPipeError:
        # The reader (head, less) has enough; Python would complain once more while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
