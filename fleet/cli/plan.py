"""`fleet plan`: what the dispatcher would do now and why. Does nothing."""

from __future__ import annotations

import json

import typer

from fleet.cli.options import ConfigOption, JsonOption
from fleet.cli.table import printable, table


def add_to(app: typer.Typer) -> None:
    app.command()(plan)


def plan(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What the dispatcher would do now, and why.

    Reads queues, clouds and memory, plans once, and does nothing.
    """
    from fleet.assemble.loading import load
    from fleet.assemble.preview import preview
    from fleet.model import Launch
    from fleet.wire import to_data

    made = preview(load(config))
    if as_json:
        actions = [{"action": type(a).__name__.lower(), **to_data(a)} for a in made.actions]
        data = {"pass_id": made.pass_id, "at": to_data(made.at), "actions": actions, "waiting": to_data(made.waiting)}
        data["notes"] = to_data(made.notes)
        typer.echo(json.dumps(data, indent=2))
        return
    rows = [
        (type(a).__name__.lower(), a.instance, a.offer.type if isinstance(a, Launch) else "", a.reason.text)
        for a in made.actions
    ]
    typer.echo(
        table(("action", "instance", "type", "because"), rows, ["instance"])
        if rows
        else "nothing to launch, nothing to end"
    )
    for note in made.notes:
        typer.echo(f"note: {printable(note.text)}")
    waiting = [(w.task, w.queue, w.reason.text) for w in made.waiting]
    if waiting:
        typer.echo("\n" + table(("task", "queue", "because"), waiting, ["task"]))
