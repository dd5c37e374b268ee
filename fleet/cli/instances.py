"""`fleet drain` and `fleet terminate`: an operator's orders."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet.cli.ids import whole_instances
from fleet.cli.operator import Centre, find_centre
from fleet.cli.options import ConfigOption, UrlOption

WhichArgument = Annotated[
    list[str] | None, typer.Argument(help="Instance ids, or how they begin, as `fleet status` shows them.")
]
LONGEST_S = 30 * 86400  # as the operator API has it

AllOption = Annotated[bool, typer.Option("--all", help="Every instance of the cluster.")]


def add_to(app: typer.Typer) -> None:
    app.command()(drain)
    app.command()(terminate)


def drain(
    which: WhichArgument = None,
    everything: AllOption = False,
    within: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Put back what still runs after this time, as 10m or 2h."),
    ] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
) -> None:
    """Let instances finish what they run, pull no more, and end.

    With --within, what is left near its end is asked to save itself, and goes to the head of its queue to go on elsewhere.
    """
    within_s = None if within is None else _seconds(within)
    centre = find_centre(url, config)
    ids = _chosen(which, everything, centre)
    said = "finishes its tasks" if within is None else f"has {within} for its tasks"
    _order("drain", f"drains: it {said}, pulls no more, and ends", ids, centre, within_s=within_s)


def terminate(
    which: WhichArgument = None,
    everything: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, even if tasks run.")] = False,
    config: ConfigOption = None,
    url: UrlOption = None,
) -> None:
    """End instances now; what runs on them goes back to its queue.

    To the head of it, and starts over. `fleet drain` lets it finish instead.
    """
    centre = find_centre(url, config)
    ids = _chosen(which, everything, centre)
    if not yes and (running := _running(ids, centre)):
        several = (
            "1 running task goes back to its queue and starts"
            if running == 1
            else f"{running} running tasks go back and start"
        )
        typer.confirm(f"{several} over. End the instances?", abort=True, err=True)
    _order("terminate", "is being ended", ids, centre)


def _chosen(which: list[str] | None, everything: bool, centre: Centre) -> list[str]:
    """Whole ids, all of them checked before the first order is given."""
    if bool(which) == everything:
        raise typer.BadParameter("name instances, or give --all")
    if everything:
        ids = [i["id"] for i in centre.get("status", "instances")["instances"]]
        if not ids:
            typer.echo("there are no instances")
        return ids
    return whole_instances(which or [], centre)


def _running(ids: list[str], centre: Centre) -> int:
    there = centre.get("status", "instances")["instances"]
    return sum(len(i["tasks"]) for i in there if i["id"] in ids)


def _seconds(text: str) -> float:
    from fleet.config.quantities import duration

    try:
        seconds = duration(text).total_seconds()
        if seconds > LONGEST_S:
            raise ValueError(f"{text}: at most 30d; without --within a machine drains until its last task has ended")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--within") from None
    return seconds


def _order(verb: str, said: str, ids: list[str], centre: Centre, **more: object) -> None:
    for instance in ids:
        state = centre.post(f"instances/{instance}/{verb}", "instance", **more).get("state")
        typer.echo(f"{instance} {'is gone already' if state == 'gone' else said}")
