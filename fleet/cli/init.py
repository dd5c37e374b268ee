"""`fleet init`: a fleet file in a few answers. It looks first, asks little, and never writes a secret."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.config import write_whole
from fleet.errors import ConfigError
from fleet.nearest import which

if TYPE_CHECKING:
    from fleet.assemble.wizard import Answers

KINDS = ("local", "aws", "gcp", "genesis")
WHAT = {
    "local": "this machine itself",
    "aws": "Amazon EC2",
    "gcp": "Google Compute Engine",
    "genesis": "Genesis Cloud",
}
MOST_USD = 1e6  # an hour


def add_to(app: typer.Typer) -> None:
    app.command()(init)


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("fleet.yaml"),
    provider: Annotated[str | None, typer.Option(help="Where machines run: local, aws, gcp or genesis.")] = None,
    region: Annotated[str | None, typer.Option(help="The cloud's region. Default: as its own tools say.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="The instance type to launch.")] = None,
    project: Annotated[str | None, typer.Option(help="The project of Google Cloud.")] = None,
    ssh_key: Annotated[str | None, typer.Option(help="A key of the account at Genesis Cloud, which wants one.")] = None,
    advertise_url: Annotated[str | None, typer.Option(help="How machines in the cloud reach this host.")] = None,
    usd_per_hour: Annotated[float | None, typer.Option(help="What all machines together may cost.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take what can be seen here.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
) -> None:
    """Write a commented fleet file to start from.

    On a terminal it asks what it cannot see. Secrets are named in the file, as ${NAME}, never written into it.
    """
    from fleet.assemble.wizard import clearml_server, seen, to_do, with_answers, written

    if path.exists() and (path.is_dir() or not force):
        hint = "" if path.is_dir() else ", or --force to replace it"
        raise ConfigError(f"{path} exists; choose another name{hint}")
    if provider is not None and provider not in KINDS:
        raise ConfigError(f"--provider {provider}: expected {', '.join(KINDS)}")
    is_asking = sys.stdin.isatty() and not yes
    provider = provider or (_ask_provider() if is_asking else "local")
    answers, credentials = seen(provider)
    answers = with_answers(
        answers,
        region=region,
        type=kind,
        project=project,
        ssh_key=ssh_key,
        advertise_url=advertise_url and advertise_url.rstrip("/"),
        usd_per_hour=usd_per_hour,
    )
    if usd_per_hour is not None and not 0 < usd_per_hour < MOST_USD:
        raise ConfigError(f"--usd-per-hour {usd_per_hour:g}: must be more than 0, and less than {MOST_USD:,.0f}")
    if is_asking:
        given = {"region": region, "type": kind, "project": project, "ssh_key": ssh_key, "advertise_url": advertise_url}
        answers = _ask(answers, credentials, given, clearml_server())
    text = written(answers)
    write_whole(path, text)
    typer.echo(f"{path} written; check it with: fleet config check -c {path}")
    for line in to_do(text, path, answers, credentials):
        typer.echo(f"before it can start: {line.removeprefix(f'{path}: ')}")


def _ask_provider() -> str:
    typer.echo("Where shall machines run?")
    for kind in KINDS:
        typer.echo(f"  {kind:<8} {WHAT[kind]}")
    while (said := typer.prompt("provider", default="local").strip()) not in KINDS:
        typer.echo(f"no cloud is called {said!r} here; {which(said, KINDS)}")
    return str(said)


def _ask(answers: Answers, credentials: str | None, given: dict[str, str | None], server: str | None) -> Answers:
    """What was neither given nor is certain."""
    from fleet.assemble.wizard import usd_of_four, with_answers

    said: dict[str, Any] = {}
    if server and typer.confirm(
        f"Use the ClearML server of your clearml.conf ({server})? No: fleet brings its own", default=True
    ):
        said["server_url"] = server
    if answers.kind == "local":
        return with_answers(answers, **said)
    typer.echo(f"Credentials: {credentials or 'none found here'}. They stay where they are.")
    if answers.kind == "gcp" and not given["project"]:
        said["project"] = typer.prompt("Project", default=answers.project or None)
    if answers.kind == "genesis" and not given["ssh_key"]:
        said["ssh_key"] = typer.prompt("Name of an SSH key of your account (a machine there needs one)").strip()
    questions = {
        "region": "Region",
        "type": "Instance type (one GPU is a good start)",
        "advertise_url": "How do machines there reach this host",
    }
    for name, question in questions.items():
        if not given[name]:
            said[name] = typer.prompt(question, default=getattr(answers, name)).strip()
    answers = with_answers(answers, **said)
    if answers.usd_per_hour:
        return answers
    usd = typer.prompt(
        "US dollars an hour that all machines together may cost", default=usd_of_four(answers), value_proc=_dollars
    )
    return with_answers(answers, usd_per_hour=usd)


def _dollars(said: object) -> float:
    """
    Raises:
        BadParameter: it is no amount that can be meant; the question is asked again.
    """
    try:
        usd = float(str(said).strip().removeprefix("$"))
    except ValueError:
        usd = 0.0
    if not 0 < usd < MOST_USD:  # nor what is no number
        raise typer.BadParameter(f"{str(said)[:40]!r}: expected US dollars, more than 0, as 5 or 2.50")
    return usd
