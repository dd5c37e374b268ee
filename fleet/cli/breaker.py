"""`fleet breaker reset`: an operator says that what broke is mended."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet.cli.operator import find_centre
from fleet.cli.options import ConfigOption, UrlOption
from fleet.errors import ConfigError

breaker_app = typer.Typer(no_args_is_help=True, help="Close the breaker of a resource.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(breaker_app, name="breaker")


@breaker_app.command()
def reset(
    resource: Annotated[str, typer.Argument(help="The resource, as the fleet file names it.")],
    config: ConfigOption = None,
    url: UrlOption = None,
) -> None:
    """Launch a resource again, whose machines did no work.

    Machines that failed before do not count any more.
    """
    if not resource or "/" in resource:
        raise ConfigError(f"{resource!r} cannot be a resource's name; give one of the fleet file's `resources`")
    find_centre(url, config).post(f"resources/{resource}/breaker/reset", "resource")
    typer.echo(f"{resource} is launched again; should its machines fail again, the breaker opens again")
