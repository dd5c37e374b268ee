"""`fleet events`: what happened, and why."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fleet.cli.ids import whole_instances, whole_task
from fleet.cli.operator import find_centre
from fleet.cli.options import ConfigOption, FollowOption, JsonOption, UrlOption
from fleet.cli.reader import has_gone
from fleet.cli.table import local_time, printable

FOLLOW_WAIT_S = 5  # how long one call waits for something to happen; so late it is seen that nobody reads any more


def add_to(app: typer.Typer) -> None:
    app.command()(events)


def events(
    config: ConfigOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
    follow: FollowOption = False,
    instance: Annotated[str | None, typer.Option(help="Only of this instance.")] = None,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 50,
) -> None:
    """What happened, and why: launches, ends, tasks, orders.

    One line each; with --json an array, or with --follow one object a line.
    """
    centre = find_centre(url, config)
    chosen = {
        "instance": whole_instances([instance], centre)[0] if instance is not None else None,
        "task": whole_task(task, centre) if task is not None else None,
    }
    found = centre.get("events", "events", limit=limit, **chosen)["events"]
    if not follow and as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not follow and not found:
        typer.echo("no events")
    after = 0
    while True:
        for event in found:
            typer.echo(json.dumps(event) if as_json else line(event))
            after = max(after, event["seq"])
        if not follow or has_gone():
            return
        found = centre.get("events", "events", after=after, wait_s=FOLLOW_WAIT_S, **chosen)["events"]


def line(event: dict[str, Any]) -> str:
    """One event as one line: when, what, to whom, why. What a machine printed keeps its lines."""
    task, instance = event.get("task"), event.get("instance")
    whom = f"{task} on {instance}" if task and instance else task or instance or ""
    if event["kind"] == "instance.console":
        told = "".join(f"\n    {printable(row)}" for row in event["text"].splitlines())
    else:
        told = f" {printable(event['text'])}"
    return f"{local_time(event['at'])}  {event['kind']:<20}  {whom}:{told}".replace("  : ", "  ")
