"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The fleet file. Default: $FLEET_CONFIG, else ./fleet.yaml."),
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The dispatcher's address. Default: $FLEET_URL, else as the fleet file says."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")]
