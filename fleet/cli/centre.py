"""`fleet up`, `fleet dispatch`, `fleet server`: the processes of the centre."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet.cli.options import ConfigOption

VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Log every action, not only what is unusual.")]

server_app = typer.Typer(
    invoke_without_command=True, no_args_is_help=False, help="The embedded ClearML-compatible server, alone."
)


def add_to(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(dispatch)
    app.add_typer(server_app, name="server")


def up(config: ConfigOption = None, verbose: VerboseOption = False) -> None:
    """Share this machine's GPUs among queues: all in one.

    Server, dispatcher, and one instance that owns the machine. Ends with Ctrl-C.
    """
    from fleet.assemble.loading import load, load_or_workstation
    from fleet.assemble.running import configure_logging, run_up

    configure_logging(verbose)
    run_up(load(config) if config else load_or_workstation(), typer.echo)


def dispatch(config: ConfigOption = None, verbose: VerboseOption = False) -> None:
    """Watch the queues; launch, drain and reap machines. Runs until SIGTERM; machines outlive it."""
    from fleet.assemble.loading import load
    from fleet.assemble.running import configure_logging, run_dispatch

    configure_logging(verbose)
    run_dispatch(load(config), typer.echo)


@server_app.callback(invoke_without_command=True)
def server(context: typer.Context, config: ConfigOption = None, verbose: VerboseOption = False) -> None:
    """Run the embedded server without a dispatcher."""
    if context.invoked_subcommand:
        return
    from fleet.assemble.loading import load_or_workstation
    from fleet.assemble.running import configure_logging, run_server

    configure_logging(verbose)
    run_server(load_or_workstation(config), typer.echo)


@server_app.command()
def credentials(
    config: ConfigOption = None,
    new: Annotated[str | None, typer.Option(metavar="USER", help="Make another pair, for this user.")] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write it to this file (mode 0600) instead of printing it.")
    ] = None,
) -> None:
    """Print the clearml.conf that a user needs."""
    from fleet.assemble.conf import clearml_conf
    from fleet.assemble.loading import load_or_workstation

    text = clearml_conf(load_or_workstation(config), new)
    if write is None:
        typer.echo(text)
        return
    from fleet.assemble.state import write_private

    write_private(write, text)
    typer.echo(f"{write} written; it holds a secret: only you can read it")
