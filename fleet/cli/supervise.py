"""`fleet supervise`: the edge."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fleet.errors import ConfigError

NEEDED = ("FLEET_CENTRE_URL", "FLEET_INSTANCE", "FLEET_JOIN_TOKEN")


def add_to(app: typer.Typer) -> None:
    app.command()(supervise)


def supervise(
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            "--metrics-file", help="Write readings to this file every 30 s, for Prometheus' textfile collector."
        ),
    ] = None,
) -> None:
    """Run the supervisor of this machine.

    It allocates the GPUs to tasks, and ends the machine when it is idle.
    The first-boot script sets FLEET_CENTRE_URL, FLEET_INSTANCE and FLEET_JOIN_TOKEN.
    """
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not set; a supervisor is started by the first-boot script of a machine that fleet "
            "launched (for this machine's own GPUs: `fleet up`)"
        )
    if metrics_file:
        os.environ["FLEET_METRICS_FILE"] = str(metrics_file.absolute())
    # A new process image: months of supervision should not carry the command line's imports in memory.
    os.execv(sys.executable, [sys.executable, "-m", "fleet.supervisor"])
