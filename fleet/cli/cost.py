"""`fleet cost`: what it cost, by resource and by instance."""

from __future__ import annotations

import json
from typing import Annotated

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
    data = find_centre(url, config).get("cost", "resources", since=since)
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
