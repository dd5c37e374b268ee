"""`fleet prices`: what the types of the fleet file cost, who says so, and asking the clouds again."""

from __future__ import annotations

import json

import typer

from fleet.cli.options import ConfigOption, JsonOption

prices_app = typer.Typer(no_args_is_help=True, help="Show or refresh what machines cost.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(prices_app, name="prices")


@prices_app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print what an hour of each type of the fleet file costs, and who says so."""
    from fleet.assemble.loading import load
    from fleet.assemble.prices import known_prices
    from fleet.cli.table import table

    found = list(known_prices(load(config)))
    if as_json:
        keys = ("resource", "type", "region", "market", "usd_per_hour", "source")
        typer.echo(json.dumps([{key: getattr(price, key) for key in keys} for price in found], indent=2))
        return
    if not found:
        typer.echo("no resource of this fleet file names instance types of a cloud")
        return
    rows = [
        (
            p.resource,
            p.type,
            p.region,
            p.market,
            "?" if p.usd_per_hour is None else f"{p.usd_per_hour:.4f}",
            p.source or "nobody",
        )
        for p in found
    ]
    typer.echo(table(("resource", "type", "region", "market", "usd/h", "says"), rows, keep=("type",)))


@prices_app.command()
def refresh(config: ConfigOption = None) -> None:
    """Ask the clouds what their types cost, and keep what can be believed.

    Refused are prices of nothing, spot above on demand, and what is five times away from the last one.
    """
    from fleet.assemble.loading import load
    from fleet.assemble.prices import refresh as refresh_prices

    has_failed, is_any = False, False
    for done in refresh_prices(load(config)):
        is_any = True
        for line in done.said:
            typer.echo(f"note: {line}", err=True)
        if done.tells:
            typer.echo(f"{done.provider}: {done.used} prices")
        has_failed = has_failed or (done.tells and not done.used)
    if not is_any:
        typer.echo("no resource of this fleet file is in a cloud")
    if has_failed:
        raise typer.Exit(1)
