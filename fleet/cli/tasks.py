"""`fleet submit`, `fleet logs`, `fleet explain`: a task from its script to its console."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.cli.events import line
from fleet.cli.operator import find_centre
from fleet.cli.options import ConfigOption, FollowOption, JsonOption, UrlOption
from fleet.cli.table import age

FOLLOW_EVERY_S = 1.0
FINAL = ("completed", "failed", "stopped", "closed", "published")

TaskArgument = Annotated[str, typer.Argument(help="The task's id.")]


def add_to(app: typer.Typer) -> None:
    app.command(context_settings={"ignore_unknown_options": True})(submit)
    app.command()(logs)
    app.command()(abort)
    app.command()(explain)


def submit(
    queue: Annotated[str, typer.Argument(help="The queue it waits in.")],
    command: Annotated[list[str], typer.Argument(metavar="-- SCRIPT [ARGS]...", help="The script and its arguments.")],
    config: ConfigOption = None,
    name: Annotated[str | None, typer.Option(help="The task's name. Default: the script's.")] = None,
    project: Annotated[str, typer.Option(help="The project it is shown under.")] = "fleet",
    gpus: Annotated[str | None, typer.Option(help="GPUs it needs, if other than its queue gives: 2, or 1-4.")] = None,
    gpu_type: Annotated[str | None, typer.Option(help="Only GPUs whose model contains this: a100.")] = None,
    gpu_memory: Annotated[float | None, typer.Option(help="GiB that each GPU must have.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a task from a script and enqueue it: its git repository with uncommitted changes, or the script alone.

    For example: fleet submit train -- train.py --lr 0.1
    """
    from fleet.assemble.access import desk
    from fleet.queues.scripts import describe_script

    if command and Path(command[0]).name in ("python", "python3") and len(command) > 1:
        command = command[1:]  # what people type by habit
    described = describe_script(command[0], command[1:], Path.cwd())
    wishes = {"gpus": gpus, "gpu_type": gpu_type, "gpu_memory": None if gpu_memory is None else f"{gpu_memory:g}"}
    tags = [f"{key}:{value}" for key, value in wishes.items() if value is not None]
    task = desk(config).submit(
        name=name or Path(command[0]).name, project=project, queue=queue, script=described.script, tags=tags
    )
    for warning in described.warnings:
        typer.echo(f"note: {warning}", err=True)
    if as_json:
        typer.echo(json.dumps({"task": task, "queue": queue}))
        return
    typer.echo(f"{task}  waits in queue {queue}\nfollow it with: fleet logs --follow {task}")


def logs(
    task: TaskArgument, config: ConfigOption = None, as_json: JsonOption = False, follow: FollowOption = False
) -> None:
    """A task's console, as it stands on the ClearML server."""
    from fleet.assemble.access import desk
    from fleet.errors import ServerRefused

    server = desk(config)
    after = 0
    while True:
        state = server.states([task]).get(task)
        if state is None:
            raise ServerRefused(f"there is no task {task} on the server; `fleet status` and `fleet events` show ids")
        texts, after = server.log(task, after)
        for text in texts:
            typer.echo(json.dumps({"task": task, "text": text}) if as_json else text.rstrip("\n"))
        if not follow or (state.status in FINAL and not texts):
            return
        time.sleep(0 if texts else FOLLOW_EVERY_S)


def abort(task: TaskArgument, config: ConfigOption = None) -> None:
    """Ask for the end of a task: one that waits leaves its queue, one that runs is told and then ended."""
    from fleet.assemble.access import desk

    desk(config).abort(task, "aborted with `fleet abort`")
    typer.echo(f"{task} is asked to end; see: fleet logs {task}")


def explain(
    task: TaskArgument, config: ConfigOption = None, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Why a task waits, where it runs, or how it ended: every decision about it, with its reason."""
    data = find_centre(url, config).get(f"/api/v1/tasks/{task}")
    typer.echo(json.dumps(data, indent=2) if as_json else _story(data))


def _story(data: dict[str, Any]) -> str:
    lines = [f"task {data['task']}"]
    waiting = data.get("waiting")
    if waiting:
        lines.append(f"waits in queue {waiting['queue']}: {waiting['reason']['text']}")
    for run in data["runs"]:
        gpus = f"GPUs {', '.join(run['gpus'])}" if run["gpus"] else "CPU only"
        ended = (
            f"{run['result']} after {age(run['seconds'])}" if run["result"] else f"running for {age(run['seconds'])}"
        )
        lines.append(f"attempt on {run['instance']} ({gpus}): {ended}")
    lines += [line(event) for event in data["events"]]
    return "\n".join(lines)
