"""Tokens of operators, in a file beside the dispatcher."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fleet.assemble.state import StateDir
from fleet.assemble.tokens import Tokens
from fleet.errors import ConfigError
from fleet.web.roles import Operator, Role


def who(tokens: Tokens, token: str) -> Operator | None:
    return tokens.who(hashlib.sha256(token.encode()).hexdigest())


def test_a_token_holds_at_once_for_a_dispatcher_that_runs_and_until_it_is_revoked(tmp_path: Path) -> None:
    running, command = Tokens(StateDir(tmp_path)), Tokens(StateDir(tmp_path))
    assert who(running, "guess") is None
    ann = command.create("ann", "viewer")
    assert who(running, ann) == Operator(name="ann", role=Role.VIEWER)
    bob = command.create("bob@lab.example.org", "admin")
    command.revoke("ann")
    assert who(running, ann) is None
    assert who(running, bob) == Operator(name="bob@lab.example.org", role=Role.ADMIN)
    assert [(t.name, str(t.role)) for t in command.all()] == [("bob@lab.example.org", "admin")]


def test_tokens_themselves_are_written_nowhere(tmp_path: Path) -> None:
    token = Tokens(StateDir(tmp_path)).create("ann", "submitter")
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    assert [file for file in files if token in file.read_text()] == []
    assert (tmp_path / "operators.json").stat().st_mode & 0o777 == 0o600


def test_what_is_wrong_is_said_in_one_line_and_changes_nothing(tmp_path: Path) -> None:
    tokens = Tokens(StateDir(tmp_path))
    tokens.create("ann", "viewer")
    for name, role, why in (
        ("ann", "admin", "there is a token of ann already"),
        ("", "viewer", "cannot be a token's name"),
        ("a\nb", "viewer", "cannot be a token's name"),
        ("bob", "root", "there is no such role; there are viewer, submitter, admin"),
    ):
        with pytest.raises(ConfigError, match=why):
            tokens.create(name, role)
    with pytest.raises(ConfigError, match="there is no token of bob; there are ann"):
        tokens.revoke("bob")
    assert [t.name for t in tokens.all()] == ["ann"]


def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    tokens = Tokens(StateDir(tmp_path))
    for text in ('[{"name": "ann", "role": "king"}]', "{", "[1]", '{"a": 1}'):
        (tmp_path / "operators.json").write_text(text)
        with pytest.raises(ConfigError):
            tokens.who("0" * 64)
