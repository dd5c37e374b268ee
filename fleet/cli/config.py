"""`fleet config check`, `fleet config import`: the fleet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet.cli.options import ConfigOption
from fleet.errors import ConfigError

config_app = typer.Typer(no_args_is_help=True, help="Check or import a fleet file.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(config_app, name="config")


@config_app.command()
def check(config: ConfigOption = None) -> None:
    """Say everything that is wrong with a fleet file."""
    from fleet.assemble.affordable import unaffordable
    from fleet.assemble.checks import check_runnable
    from fleet.assemble.loading import load

    found = load(config)
    check_runnable(found)
    for line in unaffordable(found):
        typer.echo(f"{found.origin}: note: {line}", err=True)
    resources, queues = ", ".join(r.name for r in found.resources), ", ".join(q.name for q in found.queues)
    typer.echo(f"{found.origin}: fine. Cluster {found.cluster}; resources {resources}; queues {queues}")


@config_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="ClearML's aws_autoscaler.yaml, or an application's export.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here instead of printing.")] = None,
) -> None:
    """Turn ClearML's aws_autoscaler.yaml, or the export of its AWS, GCP or GPU Compute application, into a fleet file."""
    from fleet.config import import_clearml
    from fleet.config.formats import MAX_CHARS

    try:
        with source.open(encoding="utf-8-sig") as file:
            read = file.read(MAX_CHARS + 1)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source} cannot be read: it is not text") from error
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror}") from error
    if len(read) > MAX_CHARS:  # it may be a device without an end
        raise ConfigError(f"{source} cannot be read: more than {MAX_CHARS} characters are no settings of ClearML's")
    text = import_clearml(read, source.name)
    if out is None:
        typer.echo(text)
        return
    if out.exists():
        raise ConfigError(f"{out} exists; choose another name")
    write_whole(out, text)
    typer.echo(f"{out} written; check it with: fleet config check -c {out}")


def write_whole(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    Raises:
        ConfigError: it cannot be written; what was there is still there.
    """
    from fleet.simulate import whole

    try:
        whole.write_whole(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
