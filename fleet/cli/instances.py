"""`fleet drain` and `fleet terminate`: an operator's orders."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet.cli.operator import Centre, find_centre
from fleet.cli.options import ConfigOption, UrlOption
from fleet.errors import CentreRefused

WhichArgument = Annotated[list[str] | None, typer.Argument(help="Instance ids, as `fleet status` shows them.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every instance of the cluster.")]


def add_to(app: typer.Typer) -> None:
    app.command()(drain)
    app.command()(terminate)


def drain(
    which: WhichArgument = None, everything: AllOption = False, config: ConfigOption = None, url: UrlOption = None
) -> None:
    """Let instances finish what they run, pull no more, and end."""
    _order(
        "drain", "drains: it finishes its tasks, pulls no more, and ends", which, everything, find_centre(url, config)
    )


def terminate(
    which: WhichArgument = None,
    everything: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, even if tasks run.")] = False,
    config: ConfigOption = None,
    url: UrlOption = None,
) -> None:
    """End instances now. What runs on them goes back to the head of its queue."""
    centre = find_centre(url, config)
    if not yes:
        running = [
            t
            for i in centre.get("/api/v1/status")["instances"]
            if everything or i["id"] in (which or [])
            for t in i["tasks"]
        ]
        if running:
            typer.confirm(
                f"{len(running)} running tasks go back to their queues and start over. End the instances?", abort=True
            )
    _order("terminate", "is being ended", which, everything, centre)


def _order(verb: str, said: str, which: list[str] | None, everything: bool, centre: Centre) -> None:
    if bool(which) == everything:
        raise typer.BadParameter("name instances, or give --all")
    ids = [i["id"] for i in centre.get("/api/v1/status")["instances"]] if everything else which or []
    failures = []
    for instance in ids:
        try:
            centre.post(f"/api/v1/instances/{instance}/{verb}")
            typer.echo(f"{instance} {said}")
        except CentreRefused as error:
            failures.append(str(error))
    if failures:
        raise CentreRefused("; ".join(failures))
