"""The Dockerfile of the dispatcher refers to what exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fleet.assemble.listening import Listener
from fleet.cli.app import app
from fleet.config import Address
from tests.tls_server import a_certificate
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "images" / "docker" / "Dockerfile.dispatcher"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) with continued lines joined and comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, rest in pairs]


def of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def test_every_copied_file_exists() -> None:
    copied = [words for rest in of("COPY") if not (words := rest.split())[0].startswith("--from")]
    sources = [source for *several, _ in copied for source in several]
    assert {"requirements.lock", "pyproject.toml", "fleet", "agent_hooks", "images"} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert str(PROJECT["readme"]) in sources
    assert set(PROJECT["license-files"]) <= set(sources)


def test_packages_come_from_the_lock_by_hash_and_from_nowhere_else() -> None:
    installs = [part for rest in of("RUN") for part in rest.split("&&") if "pip" in part]
    assert "--require-hashes" in installs[0]
    assert all("--no-index" in part for part in installs[1:])


def test_the_extras_exist() -> None:
    (extras,) = [rest.removeprefix("EXTRAS=") for rest in of("ARG") if rest.startswith("EXTRAS=")]
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_it_can_launch_in_each_cloud_that_ships() -> None:
    (extras,) = [rest.removeprefix("EXTRAS=") for rest in of("ARG") if rest.startswith("EXTRAS=")]
    clouds = set(PROJECT["entry-points"]["fleet.providers"]) & set(PROJECT["optional-dependencies"])
    assert {"aws", "gcp"} <= clouds <= set(extras.split(","))


@pytest.mark.parametrize("is_tls", [True, False])
def test_it_is_healthy_when_it_answers_in_tls_or_without(is_tls: bool, tmp_path: Path) -> None:
    (check,) = (json.loads(rest.partition("CMD ")[2]) for rest in of("HEALTHCHECK"))
    assert check == ["python", "/opt/fleet/healthy.py"]
    copied = [rest.split() for rest in of("COPY") if rest.endswith("/opt/fleet/healthy.py")]
    assert copied == [["images/docker/healthy.py", "/opt/fleet/healthy.py"]]

    status = 200

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"] == "/debug.ping"
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    def health(port: int) -> int:
        program = [sys.executable, str(DOCKERFILE.with_name("healthy.py")), str(port)]
        return subprocess.run(program, check=False, timeout=20 * PATIENCE).returncode

    listener = Listener(Address(host="127.0.0.1", port=0))
    listener.start(answer, a_certificate(tmp_path).context() if is_tls else None)
    try:
        found = [health(listener.port)]
        status = 503
        found.append(health(listener.port))
    finally:
        listener.stop()
    assert [*found, health(listener.port)] == [0, 1, 1]


def test_it_runs_a_command_that_exists_as_somebody_who_is_not_root() -> None:
    (program,) = json.loads(of("ENTRYPOINT")[0])
    assert program in PROJECT["scripts"]
    command = next(text for text in of("CMD") if text.startswith("["))
    assert json.loads(command)[0] in typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert of("USER") == ["fleet"]
    assert of("VOLUME") == ["/var/lib/fleet"]


def test_the_server_alone_is_the_same_with_another_command() -> None:
    text = (ROOT / "images" / "docker" / "Dockerfile.server").read_text()
    command = re.search(r"^CMD (.*)$", text, re.MULTILINE)
    assert command
    assert json.loads(command[1])[0] in typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert "FROM ${BASE}" in text
