"""`fleet init`, `fleet config check`, `fleet config import`: the fleet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet.cli.options import ConfigOption
from fleet.errors import ConfigError

config_app = typer.Typer(no_args_is_help=True, help="Check or import a fleet file.")


def add_to(app: typer.Typer) -> None:
    app.command()(init)
    app.add_typer(config_app, name="config")


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("fleet.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
) -> None:
    """Write a commented fleet file to start from."""
    from fleet.config import starter

    if path.exists() and not force:
        raise ConfigError(f"{path} exists; choose another name, or --force to replace it")
    try:
        path.write_text(starter("local"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    typer.echo(f"{path} written; check it with: fleet config check -c {path}")


@config_app.command()
def check(config: ConfigOption = None) -> None:
    """Read the fleet file and say everything that is wrong with it, at once."""
    from fleet.assemble.running import load

    found = load(config)
    typer.echo(
        f"{found.origin}: fine. Cluster {found.cluster}, {len(found.resources)} resources, {len(found.queues)} queues"
    )


@config_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="ClearML's aws_autoscaler.yaml.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here instead of printing.")] = None,
) -> None:
    """Turn the configuration of ClearML's own autoscaler into a fleet file with the same fleet."""
    from fleet.config import import_aws_autoscaler

    try:
        text = import_aws_autoscaler(source.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} cannot be read: {error}") from error
    if out is None:
        typer.echo(text)
        return
    if out.exists():
        raise ConfigError(f"{out} exists; choose another name")
    out.write_text(text)
    typer.echo(f"{out} written; check it with: fleet config check -c {out}")
