"""All commands in one app, and what an error looks like to its user."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys

import typer
import typer.core

from fleet.cli import (
    bake,
    breaker,
    centre,
    config,
    cost,
    demo,
    doctor,
    events,
    init,
    instances,
    plan,
    prices,
    simulate,
    status,
    submit,
    supervise,
    tasks,
    token,
)
from fleet.errors import FleetError

FULL = ", where this is written to; make room, and give the command again"


class _Group(typer.core.TyperGroup):
    """All commands; whoever reads their output may have enough of it (head, less)."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        found: list[str] = super().parse_args(ctx, ["version"] if args == ["--version"] else args)  # as people type it
        return found

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Python would complain once more while it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich would double the time of `fleet --help`
    pretty_exceptions_enable=False,
    help="fleet turns ClearML queues into GPU machines, and turns the machines off again.",
)
for room in (
    centre,
    supervise,
    submit,
    tasks,
    status,
    events,
    cost,
    instances,
    breaker,
    plan,
    prices,
    simulate,
    init,
    config,
    doctor,
    bake,
    demo,
    token,
):
    room.add_to(app)


@app.command()
def version() -> None:
    """Print the version of fleet."""
    from fleet import __version__

    typer.echo(__version__)


def main() -> None:
    """The entry point of the `fleet` command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in `nohup fleet ... &`
        signal.signal(signal.SIGINT, _interrupted)
    try:
        app(prog_name="fleet")
    except FleetError as error:
        _fail(str(error))
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        is_full = not what and error.errno in (errno.ENOSPC, errno.EDQUOT)
        _fail(f"{what}{error.strerror or error}{FULL if is_full else ''}")


def _interrupted(_number: int, _frame: object) -> None:
    raise SystemExit(130)


def _fail(text: str) -> None:
    # Where even that cannot be said (stderr is closed, the disk full) the exit code is left.
    with contextlib.suppress(OSError):
        typer.echo(f"fleet: {text}", err=True)
    if sys.stdout is not None:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer
    raise SystemExit(1) from None
