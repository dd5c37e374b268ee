"""`fleet events`: what happened, and why."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fleet.cli.operator import find_centre
from fleet.cli.options import ConfigOption, FollowOption, JsonOption, UrlOption


def add_to(app: typer.Typer) -> None:
    app.command()(events)


def events(
    config: ConfigOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
    follow: FollowOption = False,
    instance: Annotated[str | None, typer.Option(help="Only of this instance.")] = None,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 50,
) -> None:
    """The fleet's log: launches, ends, tasks, orders; one line each, with the reason."""
    centre = find_centre(url, config)
    after, wait_s = 0, 0
    while True:
        found = centre.get(
            "/api/v1/events", after=after, limit=limit, instance=instance, task=task, wait_s=wait_s or None
        )["events"]
        for event in found:
            typer.echo(json.dumps(event) if as_json else line(event))
            after = max(after, event["seq"])
        if not follow:
            return
        wait_s = 20


def line(event: dict[str, Any]) -> str:
    """One event as one line."""
    at = str(event["at"])[:19].replace("T", " ")
    whom = event.get("task") or event.get("instance") or ""
    return f"{at}  {event['kind']:<22}  {whom:<32}  {event['text']}".rstrip()
