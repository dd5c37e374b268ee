"""`fleet logs`, `fleet abort`, `fleet explain`: a task on its way."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.cli.ids import WHOLE_TASK, whole_task
from fleet.cli.operator import find_centre
from fleet.cli.options import ConfigOption, FollowOption, JsonOption, UrlOption
from fleet.cli.reader import has_gone
from fleet.cli.story import story
from fleet.errors import CentreRefused, FleetError, ServerRefused

FOLLOW_EVERY_S = 1.0
FINAL = ("completed", "failed", "stopped", "closed", "published")

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="The task's id, or how it begins.")]


def add_to(app: typer.Typer) -> None:
    app.command()(logs)
    app.command()(abort)
    app.command()(explain)


def logs(
    task: TaskArgument, config: ConfigOption = None, as_json: JsonOption = False, follow: FollowOption = False
) -> None:
    """Print a task's console, as it stands on the ClearML server.

    With --json an array of texts, with --follow one object a line.
    """
    from fleet.assemble.access import desk

    server, task = desk(config), _whole(task, config)
    after, shown = 0, list[dict[str, str]]()
    while True:
        state = server.states([task]).get(task)
        if state is None:
            raise ServerRefused(_unknown(task))
        texts, after = server.log(task, after)
        for text in texts:
            if as_json and not follow:
                shown.append({"task": task, "text": text})
            else:
                typer.echo(json.dumps({"task": task, "text": text}) if as_json else text.rstrip("\n"))
        if not texts and (not follow or state.status in FINAL or has_gone()):
            break
        time.sleep(0 if texts else FOLLOW_EVERY_S)
    if as_json and not follow:
        typer.echo(json.dumps(shown, indent=2))


def abort(task: TaskArgument, config: ConfigOption = None) -> None:
    """Ask for the end of a task, waiting or running.

    One that waits leaves its queue; one that runs is told, and then ended.
    """
    from fleet.assemble.access import desk

    server, task = desk(config), _whole(task, config)
    state = server.states([task]).get(task)
    if state is None:
        raise ServerRefused(_unknown(task))
    if state.status in FINAL:
        raise ServerRefused(f"task {task} is {state.status} already; there is nothing to abort")
    server.abort(task, "aborted with `fleet abort`")
    typer.echo(f"{task} is asked to end; see: fleet logs {task}")


def explain(
    task: TaskArgument, config: ConfigOption = None, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Why a task waits, where it runs, or how it ended.

    Every decision about it, with its reason.
    """
    centre = find_centre(url, config)
    task = whole_task(task, centre)
    try:
        data = centre.get(f"tasks/{task}", "runs")
    except CentreRefused as error:
        if "nothing is known" not in str(error):
            raise
        if not WHOLE_TASK.fullmatch(task):
            raise CentreRefused(_unknown(task)) from error
        data = _as_the_server_says(task, config, error)
    typer.echo(json.dumps(data, indent=2) if as_json else data.get("text") or story(data))


def _whole(task: str, config: Path | None) -> str:
    if WHOLE_TASK.fullmatch(task):
        return task  # the dispatcher need not be asked, nor be there
    return whole_task(task, find_centre(None, config))


def _unknown(task: str) -> str:
    # Only the dispatcher knows ids by their beginning, and only those that it has seen.
    if not WHOLE_TASK.fullmatch(task):
        return f"no task that waits or ran here has an id that begins with {task}; give the whole id"
    return f"there is no task {task} on the server; `fleet status` and `fleet events` show ids"


def _as_the_server_says(task: str, config: Path | None, error: CentreRefused) -> dict[str, Any]:
    """Of a task that this fleet has not touched: one just enqueued, aborted while it waited, or of somebody else.

    Raises:
        CentreRefused: `error`, if the server knows no more.
    """
    from fleet.assemble.access import desk

    try:
        state = desk(config).states([task]).get(task)
    except FleetError:
        state = None
    if state is None:
        raise error
    if state.status == "queued":
        said = "is queued on the server, and the dispatcher has not seen it yet; or its queue is none of this fleet's"
    else:
        message = f" ({state.status_message})" if state.status_message else ""
        said = f"is {state.status} on the server{message}; it waits in no queue of this fleet, and never ran here"
    text = f"task {task} {said}"
    return {"task": task, "state": state.status, "waiting": None, "runs": [], "events": [], "text": text}
