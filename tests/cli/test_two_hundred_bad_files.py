"""Two hundred bad fleet files, made from good ones of every provider, through the real commands: each is refused in lines that say
what, why and what next. No traceback, no launch, nothing half-written.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fleet.cli.app import app
from fleet.config import load, parse
from fleet.errors import ConfigError, FleetError

COUNT = 200
GOOD: dict[str, dict[str, Any]] = {
    "local": {"provider": "local", "gpus": 2, "max_instances": 1, "idle_timeout": "5m"},
    "aws": {
        "provider": "aws",
        "region": "us-east-1",
        "instance_types": ["g5.xlarge"],
        "market": "spot_then_on_demand",
        "fallback_after": "5m",
        "image": "ami-0abc",
        "prices": {"g5.xlarge": 1.0},
        "schedule": [{"cron": "0 8 * * 1-5", "for": "10h", "max_instances": 2}],
    },
    "gcp": {"provider": "gcp", "region": "us-central1", "instance_types": ["g2-standard-4"], "max_lifetime": "24h"},
    "genesis": {"provider": "genesis", "region": "NORD-NO-KRS-1", "instance_types": ["a"], "boot_timeout": "10m"},
}
REST: dict[str, Any] = {
    "cluster": "lab",
    "listen": "127.0.0.1:0",
    "advertise_url": "https://fleet.example.org:8765",
    "poll_interval": "2s",
    "on_shutdown": "idle",
    "budget": {"max_instances": 3, "when_spent": "hold"},
    "agent": {"mode": "venv", "stop_grace": "10s", "git": {"user": "git"}},
    "queues": {"train": {"resources": ["gpu"], "gpus": 1, "priority": 1}},
}
# None of these can be meant, wherever they stand instead of a right value.
NONSENSE: tuple[Any, ...] = (
    {"qq": {"qq": 1}},
    [[[]]],
    -1,
    10**30,
    float("nan"),
    float("-inf"),
    "",
    "\u202eevil\n\x1b[31m",
    "x" * 5000,
    "${NOT_SET_ANYWHERE}",
)
# What is no mapping of keys at all, or hides what it is.
TEXTS = (
    "\t" * 3 + "cluster: a",
    "cluster: &a [*a, *a]\nresources: *a\nqueues: *a\n",
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
    "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\ncluster: *g\nresources: *g\nqueues: *g\n",
    "cluster: lab\nresources: {gpu: {provider: local, gpus: 0x"
    + "f" * 4000
    + "}}\nqueues: {train: {resources: [gpu]}}\n",
    "cluster: !!python/object/apply:os.system [true]\n",
    "cluster: lab\ncluster: lab\n",
    "---\n---\n",
    "\ufeff%YAML 9.9\n---\na",
    "{" * 2000,
    "cluster: 2026-13-45\n",
    "? [a]\n: b\n",
    "cluster: lab\nresources:\n  gpu: {provider: local\n",
    "cluster: lab\nresources: {<<: [1, 2]}\nqueues: {}\n",
    "cluster: лаб\nresources: {gpu: {provider: local}}\nqueues: {train: {resources: [gpu]}}\n",
    "\x00\x01\x02",
)


def paths(data: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Everything in it that has a value, by its path."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*here, key)
        yield from paths(value, (*here, key))


def changed(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    whole = copy.deepcopy(data)
    part = whole
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return whole


def bad_files() -> Iterator[tuple[str, str]]:
    """By name: unknown keys at every place, nonsense at every place, what is missing, and what is no YAML of ours."""
    chance = random.Random(5)  # the same two hundred on every machine
    for number, text in enumerate(TEXTS):
        yield f"text {number}", text
    made: list[tuple[str, str]] = []
    for kind, resource in GOOD.items():
        good = {**REST, "resources": {"gpu": resource}}
        for path in paths(good):
            where = ".".join(map(str, path))
            for value in chance.sample(NONSENSE, 3):
                if not (isinstance(value, str) and path[-1] in FREE) and (path[-1], value) != ("priority", -1):
                    made.append((f"{kind} {where} {str(value)[:12]!r}", dumped(changed(good, path, value))))
            if isinstance(path[-1], str) and path[0] != "queues":
                made.append((f"{kind} {where} misspelt", dumped(changed(good, (*path[:-1], f"{path[-1]}qq"), 1))))
        for key in ("cluster", "resources", "queues"):
            made.append((f"{kind} without {key}", dumped({k: v for k, v in good.items() if k != key})))
    chance.shuffle(made)
    yield from made[: COUNT - len(TEXTS)]


# Any text may stand here as far as fleet can tell; the cloud knows better.
FREE = {"image", "region", 0, "user", "provider"}


def dumped(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, allow_unicode=True)


FILES = dict(bad_files())


@pytest.mark.parametrize("kind", GOOD)
def test_what_they_were_made_from_is_good(kind: str) -> None:
    assert len(FILES) == COUNT
    assert parse(dumped({**REST, "resources": {"gpu": GOOD[kind]}}), "fleet.yaml", {}).resources[0].provider == kind


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_in_lines_and_nothing_else_happens(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "home"))
    file = tmp_path / "fleet.yaml"
    file.write_text(FILES[name], encoding="utf-8")
    with pytest.raises(ConfigError):
        load(file)  # also where its provider is not installed: the file itself is wrong
    refused = CliRunner().invoke(app, ["config", "check", "-c", str(file)])
    assert isinstance(refused.exception, FleetError), (name, refused.output, refused.exception)
    lines = str(refused.exception).splitlines()
    assert lines
    for line in lines:
        assert len(line) < 700, line
        assert line.isprintable(), line
        assert str(file) in line or "could be used" in line
    looked = CliRunner().invoke(app, ["doctor", "-c", str(file)])
    assert looked.exit_code == 1, looked.output
    assert isinstance(looked.exception, SystemExit), looked.exception
    assert "Traceback" not in looked.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fleet.yaml"], "nothing was made"
