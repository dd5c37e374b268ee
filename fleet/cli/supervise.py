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
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Without a dispatcher: by a file of this machine, given with --config.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="With --standalone: the file (TOML, JSON or YAML).")
    ] = None,
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            "--metrics-file", help="Write readings to this file every 30 s, for Prometheus' textfile collector."
        ),
    ] = None,
) -> None:
    """Run the supervisor of this machine.

    It allocates the GPUs to tasks, and ends the machine when it is idle.
    The first-boot script sets FLEET_CENTRE_URL, FLEET_INSTANCE and FLEET_JOIN_TOKEN; --standalone needs none of them.
    """
    if standalone != (config is not None):
        raise typer.BadParameter("--standalone and --config FILE belong together")
    if metrics_file:
        os.environ["FLEET_METRICS_FILE"] = str(metrics_file.absolute())
    if config:
        from fleet.assemble.standalone import run

        run(config)
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not set; a supervisor is started by the first-boot script of a machine that fleet "
            "launched (for this machine's own GPUs: `fleet up`, or --standalone)"
        )
    # A new process image: months of supervision should not carry the command line's imports in memory.
    os.execv(sys.executable, [sys.executable, "-m", "fleet.supervisor"])
