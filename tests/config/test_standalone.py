"""The file of a machine without a dispatcher: TOML, JSON or YAML; what is wrong with it is one line each."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.config.standalone import CONTACT_TIMEOUT, RESOURCE, Standalone, load, parse
from fleet.errors import ConfigError
from fleet.model import Fairness, GpuNeed, KeepAwake, ServerAccess

ROOT = Path(__file__).parents[2]
TOML = """\
cluster = "lab"
gpus = 4
idle_timeout = "2h"
fairness = "shares"
keep_awake = {ssh = true}
server = {url = "http://server:8008", access_key = "KEY", secret_key = "${SECRET}"}
[agent]
mode = "interpreter"
[queues.train]
gpus = 2
priority = 5
[queues.prep]
gpus = 0
slots = 3
"""
YAML = """\
cluster: lab
gpus: 4
idle_timeout: 2h
fairness: shares
keep_awake: {ssh: true}
server: {url: "http://server:8008", access_key: KEY, secret_key: "${SECRET}"}
agent: {mode: interpreter}
queues: {train: {gpus: 2, priority: 5}, prep: {gpus: 0, slots: 3}}
"""
JSON = json.dumps(
    {
        "cluster": "lab",
        "gpus": 4,
        "idle_timeout": "2h",
        "fairness": "shares",
        "keep_awake": {"ssh": True},
        "server": {"url": "http://server:8008", "access_key": "KEY", "secret_key": "${SECRET}"},
        "agent": {"mode": "interpreter"},
        "queues": {"train": {"gpus": 2, "priority": 5}, "prep": {"gpus": 0, "slots": 3}},
    }
)
SMALLEST = """cluster = "lab"
server = {url = "http://s:8008", access_key = "a", secret_key = "b"}
queues.train = {}
"""


def read(text: str, name: str = "machine.toml") -> Standalone:
    return parse(text, name, {"SECRET": "s3cret"})


def test_toml_json_and_yaml_say_the_same() -> None:
    files = [read(TOML), read(JSON, "machine.json"), read(YAML, "machine.yaml")]
    found = [{name: getattr(file, name) for name in Standalone.__slots__ if name != "origin"} for file in files]
    assert found[0] == found[1] == found[2]
    file = files[0]
    assert file.server == ServerAccess(
        api_url="http://server:8008",
        web_url="http://server:8080",
        files_url="http://server:8081",
        access_key="KEY",
        secret_key="s3cret",
    )
    assert [(q.name, q.resources, q.need, q.priority, q.slots) for q in file.queues] == [
        ("train", (RESOURCE,), GpuNeed(at_least=2, at_most=2), 5, None),
        ("prep", (RESOURCE,), GpuNeed(at_least=0, at_most=0), 0, 3),
    ]
    assert (file.gpus, file.idle_timeout, file.fairness) == (4, timedelta(hours=2), Fairness.SHARES)
    assert file.keep_awake == KeepAwake(ssh=True)


def test_it_is_known_which_variables_values_were_read_from() -> None:
    more = 'agent.environment = {CACHE = "${HOME}/cache", PLAIN = "x"}\n'
    text = SMALLEST.replace('"b"', '"${SECRET}"') + more
    assert parse(text, "m.toml", {"SECRET": "s", "HOME": "/h", "OTHER": "o"}).variables == {"SECRET", "HOME"}
    assert read(SMALLEST).variables == frozenset()


def test_a_file_that_is_not_there_or_is_empty_is_not_for_fleet_init_to_make(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'No such file or directory; write it: docs/configuration\.md, "A machine'):
        load(tmp_path / "machine.toml")
    (tmp_path / "machine.json").write_text("[]")
    with pytest.raises(ConfigError, match="it should hold keys such as cluster, server and queues") as refused:
        load(tmp_path / "machine.json")
    assert "fleet init" not in str(refused.value)


def test_a_machine_on_premises_never_ends_for_idleness_unless_its_file_says_so() -> None:
    file = read(SMALLEST)
    assert (file.idle_timeout, file.max_lifetime, file.gpus) == (None, None, None)
    assert file.contact_timeout == CONTACT_TIMEOUT == timedelta(hours=1)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('idle_timout = "2h"', "idle_timout: unknown key; did you mean idle_timeout?"),
        ("budget = {}", "budget: unknown key"),
        ('idle_timeout = "auto"', "idle_timeout: a duration has a unit, as 90s, 10m, 24h or 7d, got 'auto'"),
        ('contact_timeout = "5s"', "contact_timeout: must be 30s or more: a server that is restarted must not cost"),
        ('gpus = "all"', "gpus: expected a number of simulated GPUs, 0 to 64, or real, got 'all'"),
        ('machine = "a b"', "machine: expected letters, digits, - _ and ., 63 at most"),
        ("resources = {}", "resources: is of a fleet with a dispatcher; of this one machine say gpus and idle_timeout"),
        ('queues.big = {resources = ["x"]}', "queues.big.resources: unknown key"),
        ("queues.big = {headroom = 2}", "queues.big.headroom: unknown key"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(more: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(f"{SMALLEST}{more}\n")
    (line,) = refused.value.problems
    assert line.startswith(f"machine.toml: {problem}")


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        (SMALLEST.replace('{url = "http://s:8008", access_key = "a", secret_key = "b"}', '"embedded"'), "m.toml", "server: expected {url"),
        (SMALLEST.replace('secret_key = "b"', 'secret_key = "${NOT}"'), "m.toml", "server.secret_key: environment variable NOT"),
        (SMALLEST.replace(', secret_key = "b"', ""), "m.toml", "server.secret_key: is missing"),
        (SMALLEST.replace("lab", "The Lab"), "m.toml", "cluster: a name of 1 to 40 small letters"),
        ("queues = {}", "m.toml", "server: is missing"),
        ("cluster = ", "m.toml", "not TOML: Invalid value (at end of document)"),
        ("{", "m.json", "not JSON: Expecting property name"),
        ("[]", "m.json", "holds a list; it should hold keys"),
        ('{"cluster": "a", "cluster": "b"}', "m.json", "cluster: given twice; keep one"),
        ("a: [", "m.yaml", "line 1: not YAML"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_told_in_lines(text: str, name: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text, name)
    assert any(line.startswith(f"{name}: {problem}") for line in refused.value.problems), refused.value.problems


def test_the_base_install_reads_toml_and_json_and_says_what_yaml_needs(tmp_path: Path) -> None:
    (tmp_path / "machine.toml").write_text(SMALLEST)
    (tmp_path / "machine.yaml").write_text(YAML)
    script = """
import sys
sys.modules["yaml"] = None  # as where it is not installed
from pathlib import Path
from fleet.config.standalone import load
from fleet.errors import ConfigError
print(load(Path("machine.toml")).cluster)
try:
    load(Path("machine.yaml"))
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    name, yaml = done.stdout.splitlines()
    assert name == "lab"
    assert yaml.startswith(
        "machine.yaml: PyYAML, which reads YAML, is not installed here; write the file as TOML or JSON"
    )
