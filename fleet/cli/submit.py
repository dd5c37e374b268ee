"""`fleet submit`: a script becomes a task in a queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from fleet.cli.options import ConfigOption, JsonOption

SHORTEST_NAME = 3  # the server refuses shorter ones


class _Submit(typer.core.TyperCommand):
    """Whatever follows the script belongs to the script, with and without `--`, as in `docker run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        whole = _split(args, self.params)
        ours = {o for p in self.params for o in p.opts if o.startswith("--")}
        if "--" not in args and "--" in whole:
            for word in whole[whole.index("--") + 1 :]:
                if word.partition("=")[0] in ours:
                    typer.echo(f"note: {word} goes to the script; fleet's own options stand before it", err=True)
        rest: list[str] = super().parse_args(ctx, whole)
        return rest


def add_to(app: typer.Typer) -> None:
    app.command(cls=_Submit)(submit)


def submit(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue it waits in.")],
    command: Annotated[list[str], typer.Argument(metavar="-- SCRIPT [ARGS]...", help="The script and its arguments.")],
    config: ConfigOption = None,
    name: Annotated[str | None, typer.Option(help="The task's name. Default: the script's.")] = None,
    project: Annotated[str, typer.Option(help="The project it is shown under.")] = "fleet",
    gpus: Annotated[
        str | None, typer.Option(help="GPUs it needs, if other than its queue gives: 2, 0.5, or 1-4.")
    ] = None,
    gpu_type: Annotated[str | None, typer.Option(help="Only GPUs whose model contains this: a100.")] = None,
    gpu_memory: Annotated[str | None, typer.Option(help="GiB that each GPU must have: 40.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a task from a script and enqueue it.

    With its git repository and uncommitted changes, or the script alone. For example:
    fleet submit train --gpus 2 -- train.py --lr 0.1
    """
    from fleet.assemble.access import desk, doubts
    from fleet.model import GpuNeed
    from fleet.queues.scripts import describe_script
    from fleet.queues.wishes import wishes

    if Path(command[0]).name in ("python", "python3") and len(command) > 1:
        command = command[1:]  # what people type by habit
    wanted = {"gpus": gpus, "gpu_type": gpu_type, "gpu_memory": gpu_memory}
    tags = [f"{key}:{value}" for key, value in wanted.items() if value is not None]
    wished = wishes(GpuNeed(at_least=1, at_most=1), tags, {})
    if wished.ignored:
        raise typer.BadParameter("; ".join(i.replace(" is ignored", "") for i in wished.ignored))
    described = describe_script(command[0], command[1:], Path.cwd())
    task = desk(config).submit(
        name=_name(name, command[0]),
        project=_long_enough(project, "--project"),
        queue=queue,
        script=described.script,
        tags=tags,
    )
    for warning in (*described.warnings, *doubts(config, queue, wished.need if gpus else None)):
        typer.echo(f"note: {warning}", err=True)
    if as_json:
        typer.echo(json.dumps({"task": task, "queue": queue}))
        return
    typer.echo(f"{task}  waits in queue {queue}\nfollow it with: fleet logs --follow {task}")


def _name(given: str | None, script: str) -> str:
    return _long_enough(given, "--name") if given is not None else Path(script).name.ljust(SHORTEST_NAME, "_")


def _long_enough(text: str, option: str) -> str:
    if len(text.strip()) < SHORTEST_NAME:
        raise typer.BadParameter(
            f"{text!r}: at least {SHORTEST_NAME} characters, the server refuses less", param_hint=option
        )
    return text


def _split(args: list[str], params: list[Any]) -> list[str]:
    """The same with `--` before the script, the second word that is neither an option nor an option's value."""
    flags = {o for p in params for o in p.opts if getattr(p, "is_flag", False)} | {"--help"}
    valued = {o for p in params for o in p.opts if o.startswith("-")} - flags
    words, at = 0, 0
    while at < len(args) and args[at] != "--":
        if args[at] in valued:
            at += 1
        elif not args[at].startswith("-") or args[at] == "-":
            words += 1
            if words == 2:
                return [*args[:at], "--", *args[at:]]
        at += 1
    return args
