"""`fleet cost`: what it cost, by resource and by instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fleet.cli.operator import find_centre
from fleet.cli.options import ConfigOption, JsonOption, UrlOption
from fleet.cli.table import money, table


def add_to(app: typer.Typer) -> None:
    app.command()(cost)


def cost(
    config: ConfigOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
    since: Annotated[str, typer.Option(help="How far back: 24h, 7d.")] = "24h",
) -> None:
    """Instance hours and US dollars."""
    centre = find_centre(url, config)
    data = centre.get("cost", "resources", since=since)
    if as_json:
        typer.echo(json.dumps(data, indent=2))
        return
    resources = [(r["resource"], r["instances"], round(r["hours"], 2), money(r["usd"])) for r in data["resources"]]
    typer.echo(
        table(("resource", "instances", "hours", "usd"), resources) if resources else f"nothing ran in the last {since}"
    )
    instances = [
        (i["id"], i["resource"], round(i["hours"], 2), money(i["usd"]), i["launched_because"], i["ended_because"])
        for i in data["instances"]
    ]
    if instances:
        typer.echo(
            "\n"
            + table(
                ("instance", "resource", "hours", "usd", "launched because", "ended because"), instances, ["instance"]
            )
        )
    if caps := _left(centre.get("status", "budget")["budget"]):
        typer.echo("\n" + table(("budget", "spent", "of", "left"), caps))


def _left(budget: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """What the caps of the fleet leave, those that there are."""
    kinds = (("today", "usd_today", "max_usd_per_day"), ("this month", "usd_month", "max_usd_per_month"))
    return [
        (name, money(budget[spent]), money(budget[cap]), money(max(budget[cap] - budget[spent], 0.0)))
        for name, spent, cap in kinds
        if budget.get(cap) is not None
    ]
