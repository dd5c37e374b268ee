"""`fleet bake`: an image for the machines of a cloud."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from fleet.cli.options import ConfigOption
from fleet.errors import ConfigError
from fleet.nearest import which


class Cloud(StrEnum):
    AWS = "aws"
    GCP = "gcp"


def add_to(app: typer.Typer) -> None:
    app.command()(bake)


def bake(
    cloud: Annotated[Cloud, typer.Argument(help="aws or gcp.")],
    resource: Annotated[
        str | None, typer.Option("--resource", "-r", help="Of which resource. Default: the only one of this cloud.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the image into the fleet file.")] = False,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="IMAGE", help="The image to begin with. Default: the newest Ubuntu LTS."),
    ] = None,
    builder: Annotated[
        str | None,
        typer.Option("--builder", metavar="TYPE", help="The type of the machine that bakes. It needs no GPU."),
    ] = None,
    ssh_user: Annotated[
        str | None,
        typer.Option("--ssh-user", metavar="USER", help="Who logs in, on AWS. Default: ubuntu; admin for Debian."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Make an image that is ready seconds after its boot.

    It runs Packer with the provision scripts that a stock image runs at its first boot. The last line is the image.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from fleet.assemble.bake_access import let_in
    from fleet.assemble.baking import bake_of, run_packer
    from fleet.assemble.image_line import write_image
    from fleet.assemble.loading import load

    loaded = load(config)
    ours = [each for each in loaded.resources if each.provider == cloud and resource in (None, each.name)]
    there = [each.name for each in loaded.resources if each.provider == cloud]
    if resource and not ours:
        raise ConfigError(f"{loaded.origin}: no resource of {cloud} is called {resource}; {which(resource, there)}")
    if len(ours) != 1:
        names = ", ".join(there) or f"no resource of {cloud}"
        raise ConfigError(f"{loaded.origin} has {names}; say with --resource whose image it shall be")
    bake = bake_of(cloud, loaded, ours[0], datetime.now(UTC), source=source, builder=builder, ssh_user=ssh_user)
    image = run_packer(bake, lambda place: let_in(cloud, ours[0], place))
    if write:
        write_image(Path(loaded.origin), ours[0].name, image)
    typer.echo(image)
