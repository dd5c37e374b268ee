"""`fleet status`: what is going on."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import typer

from fleet.cli.operator import find_centre
from fleet.cli.options import ConfigOption, FollowOption, JsonOption, UrlOption
from fleet.cli.table import age, money, printable, table

FOLLOW_EVERY_S = 2.0
# Home, then clear what is left below: clearing first would flicker.
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
KEPT = ("instance", "task")  # columns whose ids people copy


def add_to(app: typer.Typer) -> None:
    app.command()(status)


def status(
    config: ConfigOption = None, url: UrlOption = None, as_json: JsonOption = False, follow: FollowOption = False
) -> None:
    """Queues, instances with their GPUs and tasks, money, alerts."""
    centre = find_centre(url, config)
    while True:
        data = centre.get("status", "queues")
        if as_json:
            typer.echo(json.dumps(data) if follow else json.dumps(data, indent=2))
        else:
            text = render(data)
            if follow and sys.stdout and sys.stdout.isatty():
                text = HOME + text.replace("\n", f"{CLEAR_LINE}\n") + CLEAR_LINE + CLEAR_BELOW
            typer.echo(text)
        if not follow:
            return
        time.sleep(FOLLOW_EVERY_S)


def render(data: dict[str, Any]) -> str:
    """The status as text of at most 100 columns."""
    server, budget = data["server"], data["budget"]
    said = {None: "not asked yet", True: "answers", False: "DOES NOT ANSWER"}[server["ok"]]
    parts = [f"cluster {data['cluster']}   server {server['url']} ({server['kind']}, {said})", _money(budget)]
    queues = [
        (q["name"], q["queued"], age(q["oldest_wait_s"]), q["running"], q["gpus_per_task"], ", ".join(q["resources"]))
        for q in data["queues"]
    ]
    parts += [
        "",
        table(("queue", "queued", "oldest", "running", "gpus", "resources"), queues) if queues else "no queues",
    ]
    instances = [_instance(i) for i in data["instances"]]
    head = ("instance", "resource", "state", "age", "idle", "gpus", "tasks", "$/h", "cost")
    parts += ["", table(head, instances, KEPT) if instances else "no instances: nothing runs, nothing costs"]
    tasks = [row for i in data["instances"] for row in _tasks(i)]
    parts += ["", table(("task", "instance", "gpus", "model"), tasks, KEPT)] if tasks else []
    parts += ["", *(f"! {printable(alert)}" for alert in data["alerts"])] if data["alerts"] else []
    notes = data.get("notes")  # a dispatcher of an older version has none
    parts += ["", *(f"- {printable(note)}" for note in notes)] if notes else []
    return "\n".join(parts)


def _money(budget: dict[str, Any]) -> str:
    def of(used: str, cap: object) -> str:
        return used if cap is None else f"{used} of {cap}"

    cap_usd = budget["max_usd_per_hour"]
    instances = of(str(budget["instances"]), budget["max_instances"])
    hourly = of(money(budget["usd_per_hour"]), None if cap_usd is None else money(cap_usd))
    today = of(money(budget["usd_today"]), _cap(budget.get("max_usd_per_day")))
    month = of(money(budget["usd_month"]), _cap(budget.get("max_usd_per_month")))
    return f"instances {instances}   {hourly} an hour   {today} today   {month} this month"


def _cap(usd: float | None) -> str | None:
    return None if usd is None else money(usd)


def _tasks(i: dict[str, Any]) -> list[tuple[object, ...]]:
    """What runs there, each with the numbers of its GPUs."""
    rows: list[tuple[object, ...]] = []
    for task in i["tasks"]:
        mine = [g for g in i["gpus"] if task in (g["task"] or "").split(", ")]
        numbers = ",".join(str(g["index"]) for g in mine)
        rows.append((task, i["id"], numbers or "-", mine[0]["model"] if mine else "CPU only"))
    return rows


def _instance(i: dict[str, Any]) -> tuple[object, ...]:
    held = sum(1 for g in i["gpus"] if g["task"])
    return (
        i["id"],
        i["resource"],
        i["state"],
        age(i["age_s"]),
        age(i["idle_s"]),
        f"{held}/{len(i['gpus'])}",
        len(i["tasks"]),
        money(i["usd_per_hour"]),
        money(i["usd"]),
    )
