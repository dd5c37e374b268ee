"""What `fleet explain` tells: where a task is, how it got there, and what its owner may do. From the API's plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from fleet.cli.table import age, local_time, printable

# What a waiting task's owner can do, by the code of the reason. Others pass by themselves.
ADVICE = {
    "no_fit": "it will wait for ever: change what it asks for, or let the fleet file give its queue a larger resource",
    "no_offer": "nothing of the kind is sold at the moment; the dispatcher goes on looking",
    "free": "it will be taken within seconds",
    "max_instances": "it starts when what runs there ends; a higher limit or priority would make it sooner",
}
COLUMNS = 100
GIVEN_UP = "task.given_up"


def story(data: Mapping[str, Any]) -> str:
    """The task as it stands in one line, then what happened to it, oldest first."""
    lines = textwrap.wrap(f"task {data['task']} {_now(data)}", COLUMNS, subsequent_indent="  ", break_long_words=False)
    waiting = data.get("waiting")
    if waiting:
        reason = waiting["reason"]
        lines += [f"  {hint}" for hint in (_limit(reason), ADVICE.get(reason["code"])) if hint]
    elif data.get("state") == "failed":
        lines.append(f"  its console says why: fleet logs {data['task']}")
    lines += [f"  note: {printable(e['text'])}" for e in data["events"] if e["kind"] == "task.wish_ignored"]
    told = [e for e in data["events"] if e["kind"] != "task.wish_ignored"]
    lines += [""] * bool(told) + [_line(e) for e in told]
    return "\n".join(lines)


def _now(data: Mapping[str, Any]) -> str:
    waiting, runs = data.get("waiting"), data["runs"]
    if waiting:
        again = f" again, after {len(runs)} attempt{'s' if len(runs) > 1 else ''}" if runs else ""
        return f"waits in queue {waiting['queue']}{again}: {printable(waiting['reason']['text'])}"
    if not runs:
        return "is not in any queue of this fleet now, and never ran here"
    run = runs[-1]
    if data["events"] and data["events"][-1]["kind"] == GIVEN_UP:
        return f"was given up: {len(runs)} machines were lost under it"
    where, took = f"{run['instance']} ({_gpus(run)})", age(run["seconds"])
    nth = f", attempt {len(runs)}" if len(runs) > 1 else ""
    if not run["ended_at"]:
        return f"runs on {where} for {took}{nth}" if run["started_at"] else f"starts on {where}{nth}"
    code = run["exit_code"]
    said = "" if code in (None, 0) else f" with exit code {code}"
    result = {
        "completed": "completed",
        "failed": "failed",
        "stopped": "was stopped by its user",
        "requeued": "lost its machine and goes back to its queue",
    }.get(run["result"], "ended")
    return f"{result}{said} after {took} on {where}{nth}"


def _limit(reason: Mapping[str, Any]) -> str | None:
    limit = reason.get("limit")
    return f"the limit that decided: {limit}" if limit and limit not in reason["text"] else None


def _gpus(run: Mapping[str, Any]) -> str:
    number = len(run["gpus"])
    return "CPU only" if not number else f"{number} GPU{'s' if number > 1 else ''}"


def _line(event: Mapping[str, Any]) -> str:
    on = f"on {event['instance']}: " if event.get("instance") else ""
    on += "given up: " if event["kind"] == GIVEN_UP else ""
    return f"{local_time(event['at'])}  {on}{printable(event['text'])}"
