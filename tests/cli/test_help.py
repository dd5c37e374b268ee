"""The first thing that people read, and what it costs."""

import pytest

from tests.cli.running import Shell
from tests.web.nouns import Web

HEAVY = {"requests", "urllib3", "docker", "sqlalchemy", "alembic", "pydantic", "rich", "yaml", "starlette", "uvicorn"}


def modules_of(shell: Shell, *arguments: str) -> set[str]:
    """Top names of what this command imports."""
    done = shell.fleet(*arguments, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip() for line in lines}


def test_help_loads_nothing_heavy(shell: Shell) -> None:
    loaded = modules_of(shell, "--help")
    assert {name.split(".")[0] for name in loaded} & (HEAVY | {"http", "ssl"}) == set()
    assert len([name for name in loaded if name.startswith("fleet")]) < 30
    assert "fleet.model" not in loaded, "its dataclasses take 20 ms to make"


def test_status_loads_nothing_heavy(shell: Shell, web: Web) -> None:
    loaded = modules_of(shell, "status", "--url", web.url)
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()
    assert len([name for name in loaded if name.startswith("fleet")]) < 30


def test_the_version_is_told_in_both_ways_that_people_ask_for_it(shell: Shell) -> None:
    assert shell.fleet("--version").stdout == shell.fleet("version").stdout != ""


def test_help_cuts_no_sentence_and_names_the_program(shell: Shell) -> None:
    said = shell.fleet("--help", COLUMNS="80").stdout
    assert said.startswith("Usage: fleet ")
    commands = said.split("Commands:")[1].splitlines()
    assert [line for line in commands if line.endswith("...")] == []


@pytest.mark.parametrize("option", ["--help"])
def test_every_command_has_help(shell: Shell, option: str) -> None:
    said = shell.fleet("--help").stdout.split("Commands:")[1]
    names = [line.split()[0] for line in said.splitlines() if line.startswith("  ") and line[2] != " "]
    assert len(names) > 15
    from typer.testing import CliRunner

    from fleet.cli.app import app

    for name in names:
        shown = CliRunner().invoke(app, [name, option])
        assert (shown.exit_code, "Usage:" in shown.output) == (0, True), name
