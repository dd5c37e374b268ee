"""`fleet token`: who else may ask the operator API, and what for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.options import ConfigOption, JsonOption
from fleet.cli.table import table

if TYPE_CHECKING:
    from fleet.assemble.tokens import Tokens

token_app = typer.Typer(no_args_is_help=True, help="Tokens of the operator API.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(token_app, name="token")


@token_app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose it is; events say it beside their orders.")],
    role: Annotated[str, typer.Option(help="viewer, submitter or admin.")] = "viewer",
    config: ConfigOption = None,
) -> None:
    """Make a token and show it once.

    It holds at once, also for a dispatcher that runs. Run it on the dispatcher's host, as its user.
    """
    typer.echo(_tokens(config).create(name, role))


@token_app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show whose tokens there are. The tokens themselves are not kept."""
    found = [{"name": t.name, "role": str(t.role), "made_at": t.made_at} for t in _tokens(config).all()]
    if as_json:
        typer.echo(json.dumps({"tokens": found}))
        return
    rows = [tuple(each.values()) for each in found]
    nothing = "no tokens; make one with: fleet token create --name ann --role viewer"
    typer.echo(table(("name", "role", "made at"), rows) if rows else nothing)


@token_app.command()
def revoke(name: Annotated[str, typer.Argument(help="Whose.")], config: ConfigOption = None) -> None:
    """Take a token back. From now on it lets nobody in."""
    _tokens(config).revoke(name)
    typer.echo(f"the token of {name} is revoked")


def _tokens(config: Path | None) -> Tokens:
    from fleet.assemble.loading import load_or_workstation
    from fleet.assemble.state import state_of
    from fleet.assemble.tokens import Tokens

    return Tokens(state_of(load_or_workstation(config)))
