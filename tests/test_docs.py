"""What the docs say is what the code does: tables against registries, both ways; links; examples."""

from __future__ import annotations

import ast
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer.main

from agent_hooks.hooks import MOMENTS
from agent_hooks.textfile import METRICS
from fleet.assemble.providers import GROUP
from fleet.cli.app import app
from fleet.config import parse, standalone
from fleet.config.resources import OWN_KEYS
from fleet.dispatcher.launching import _code
from fleet.errors import ConfigError, ProviderError
from fleet.model import Budget
from fleet.planner.windows import BUDGET_DRAIN, BUDGET_ORDERS, BUDGET_STOP
from fleet.queues.wishes import WORDS
from fleet.server.api import ENDPOINTS, LOGIN
from fleet.store.memory import MemoryStore
from fleet.web.app import create_web
from fleet.web.hints import Hints
from fleet.web.machine_metrics import GPU_LABELS, MACHINE_LABELS, OF_GPU, OF_MACHINE
from fleet.web.roles import LEAST
from fleet.web.settings import WebSettings
from tests.markdown import Page, names

ROOT = Path(__file__).parents[1]
OURS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
CODE = sorted(path for house in ("fleet", "agent_hooks") for path in (ROOT / house).rglob("*.py"))


def files() -> Iterator[Path]:
    """All but what is made: what .gitignore names."""
    made = [".git", *(ROOT / ".gitignore").read_text().replace("/", "").split()]
    for here, folders, found in os.walk(ROOT):
        folders[:] = [name for name in folders if not any(fnmatch(name, pattern) for pattern in made)]
        yield from (Path(here, name) for name in found if not any(fnmatch(name, pattern) for pattern in made))


FILES = sorted(files())
PAGES = [path for path in FILES if path.suffix == ".md"]

CONFIGURATION, OPERATIONS = Page(ROOT / "docs" / "configuration.md"), Page(ROOT / "docs" / "operations.md")
SERVER, CLI, README = Page(ROOT / "docs" / "server.md"), Page(ROOT / "docs" / "cli.md"), Page(ROOT / "README.md")


def nodes(kind: type[ast.AST], files: list[Path] = CODE) -> Iterator[tuple[Path, ast.AST]]:
    for path in files:
        yield from ((path, node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kind))


def texts() -> Iterator[str]:
    """Every text in the code, also those in the middle of an f-string."""
    return (str(node.value) for _, node in nodes(ast.Constant) if isinstance(node.value, str))  # type: ignore[attr-defined]


# --- the fleet file

STRANGE = "qqqqqqqq"  # near no key
EVERYWHERE = f"""\
cluster: x
{STRANGE}: 1
server: {{url: embedded, {STRANGE}: 1}}
tls: {{certificate: /c, key: /k, {STRANGE}: 1}}
identity: {{{STRANGE}: 1}}
budget:
  {STRANGE}: 1
  per_user: {{{STRANGE}: 1}}
  users: {{ann: {{{STRANGE}: 1}}}}
  schedule: [{{cron: 0 8 * * *, for: 1h, max_instances: 1, {STRANGE}: 1}}]
agent:
  {STRANGE}: 1
  git: {{{STRANGE}: 1}}
  venvs_cache: {{{STRANGE}: 1}}
  storage:
    {STRANGE}: 1
    s3: {{{STRANGE}: 1, buckets: [{{{STRANGE}: 1}}]}}
    google: {{{STRANGE}: 1, buckets: [{{{STRANGE}: 1}}]}}
    azure: {{{STRANGE}: 1, containers: [{{{STRANGE}: 1}}]}}
resources:
  r: {{provider: local, {STRANGE}: 1}}
  m: {{provider: local, market: {{policy: spot, {STRANGE}: 1}}}}
  p: {{provider: local, prices: {{x: {{{STRANGE}: 1}}}}}}
  k: {{provider: local, keep_awake: {{{STRANGE}: 1}}}}
  s: {{provider: local, schedule: [{{cron: 0 8 * * *, for: 1h, max_instances: 1, {STRANGE}: 1}}]}}
queues:
  train:
    resources: [r]
    {STRANGE}: 1
    budget: {{{STRANGE}: 1}}
    schedule: [{{cron: 0 8 * * *, for: 1h, headroom: 1, {STRANGE}: 1}}]
"""
OF_A_URL = f"""\
cluster: x
server: {{url: "http://lab:8008", access_key: a, secret_key: s, {STRANGE}: 1}}
resources: {{r: {{provider: local}}}}
queues: {{train: {{resources: [r]}}}}
"""
HEADINGS = {  # of docs/configuration.md -> the path in EVERYWHERE
    "Top level": "",
    "server: embedded": "server",
    "tls": "tls",
    "identity": "identity",
    "budget": "budget",
    "budget.per_user": "budget.per_user",
    "queues.*.budget": "queues.train.budget",
    "agent": "agent",
    "agent.git": "agent.git",
    "agent.venvs_cache": "agent.venvs_cache",
    "agent.storage": "agent.storage",
    "agent.storage.s3": "agent.storage.s3",
    "agent.storage.s3.buckets": "agent.storage.s3.buckets[0]",
    "agent.storage.google": "agent.storage.google",
    "agent.storage.google.buckets": "agent.storage.google.buckets[0]",
    "agent.storage.azure": "agent.storage.azure",
    "agent.storage.azure.containers": "agent.storage.azure.containers[0]",
    "resources.*.market": "resources.m.market",
    "resources.*.prices": "resources.p.prices.x",
    "resources.*.keep_awake": "resources.k.keep_awake",
    "resources.*.schedule": "resources.s.schedule[0]",
    "queues": "queues.train",
    "queues.*.schedule": "queues.train.schedule[0]",
    "budget.schedule": "budget.schedule[0]",
}


def known_keys(text: str) -> dict[str, set[str]]:
    """Path -> the keys that are known there, as the loader itself says when it meets one that is not."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "f", environment={})
    found = {}
    for problem in caught.value.problems:
        match = re.fullmatch(rf"f: (?:(.*)\.)?{STRANGE}: unknown key; known are (.*)", problem)
        assert match, problem
        found[match[1] or ""] = set(match[2].split(", "))
    return found


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_key_of_the_fleet_file_has_its_row(heading: str) -> None:
    assert set(CONFIGURATION.rows(heading)) == known_keys(EVERYWHERE)[HEADINGS[heading]]


def test_keys_of_a_clearml_server_have_their_rows() -> None:
    assert set(CONFIGURATION.rows("server: a URL")) == known_keys(OF_A_URL)["server"]


def test_keys_of_a_machine_without_a_dispatcher_have_their_rows() -> None:
    file = f'{{"server": {{"url": "http://lab:8008", "access_key": "a", "secret_key": "s"}}, "{STRANGE}": 1}}'
    with pytest.raises(ConfigError) as caught:
        standalone.parse(file, "f.json")
    known = next(problem for problem in caught.value.problems if STRANGE in problem)
    rows = CONFIGURATION.tables("A machine without a dispatcher")[0].rows
    said = {name for row in rows for name in names(row[0])}
    assert said | {"resources"} == set(known.partition("known are ")[2].split(", "))


def test_the_file_of_a_machine_in_the_docs_is_right(tmp_path: Path) -> None:
    (text,) = CONFIGURATION.blocks("toml")
    (tmp_path / "server_secret").write_text("secret")
    file = standalone.parse(text.replace("/etc/fleet", str(tmp_path)), "docs.toml")
    assert [queue.name for queue in file.queues] == ["train", "prep"]


def test_keys_of_every_resource_and_of_each_provider_have_their_rows() -> None:
    common = known_keys(EVERYWHERE)["resources.r"] - set(OWN_KEYS["local"])
    assert set(CONFIGURATION.rows("resources")) == common
    assert set(CONFIGURATION.rows("provider: local")) == set(OWN_KEYS["local"])
    for provider in set(OWN_KEYS) - {"local"}:
        (table,) = CONFIGURATION.tables(f"provider: {provider}")
        # A provider that this version has says what each key means; of another there are names alone.
        cells = [
            name
            for row in table.rows
            for cell in (row if {*table.head} == {"key"} else row[:1])
            for name in names(cell)
        ]
        assert sorted(cells) == sorted(OWN_KEYS[provider]), provider


def test_wishes_of_a_task_have_their_rows() -> None:
    assert set(CONFIGURATION.rows("What a task may ask for itself")) == set(WORDS)


def test_what_this_version_refuses_is_said() -> None:
    first_cells = [row[0] for row in CONFIGURATION.tables("What this version refuses")[0].rows]
    said = {name for cell in first_cells for name in names(cell)}
    assert GROUP == "fleet.providers"
    assert set(OWN_KEYS) - set(OURS) == said & set(OWN_KEYS)


@pytest.mark.parametrize("text", [b for b in CONFIGURATION.blocks("yaml") if "resources:" in b])
def test_a_whole_fleet_file_in_the_docs_is_right_and_not_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "clearml_key").write_text("secret")
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "value")
    config = parse(text.replace("file:/run/secrets", f"file:{tmp_path}"), "docs", environment)
    assert {resource.provider for resource in config.resources} <= set(OURS)


# --- events and reasons


def test_every_kind_of_event_has_its_row() -> None:
    kinds = {text for text in texts() if re.fullmatch(r"(instance|task|breaker|account)\.[a-z_]+", text)}
    rows = OPERATIONS.rows("Events")
    assert set(rows) == kinds
    codes = {name for row in rows.values() for name in names(row[2]) if "." not in name}
    assert codes <= set(OPERATIONS.rows("Reasons"))


def first_texts_of_stops(tree: ast.AST) -> set[str]:
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    return {n.args[0].value for n in calls if n.func.id == "stop" and isinstance(n.args[0], ast.Constant)}  # type: ignore[attr-defined, misc]


def first_texts_of_pairs(tree: ast.AST) -> set[str]:
    constants = [n.value for n in ast.walk(tree) if isinstance(n, ast.Assign)]
    pairs = [n.elts for c in constants for n in ast.walk(c) if isinstance(n, ast.Tuple) and len(n.elts) == 2]
    return {str(a.value) for a, b in pairs if isinstance(a, ast.Constant) and isinstance(b, ast.Constant)}


def errors_of_providers(_tree: ast.AST) -> set[str]:
    return {_code(kind("")) for kind in (ProviderError, *ProviderError.__subclasses__())}


# A reason whose code is not written where it is made: file, expression -> where the codes come from.
BUDGET_CAPS = {"usd_per_day", "usd_per_month"}
INDIRECT: dict[tuple[str, str], Callable[[ast.AST], set[str]]] = {
    ("fleet/supervisor/stops.py", "code"): first_texts_of_stops,
    ("fleet/planner/said.py", "code"): first_texts_of_pairs,
    ("fleet/planner/said.py", "why.code"): lambda _tree: set(),  # another reason, for another task
    ("fleet/dispatcher/launching.py", "_code(answer.error)"): errors_of_providers,
    ("fleet/planner/money.py", "tally.what"): lambda _tree: BUDGET_CAPS,
    ("fleet/planner/enforce.py", "code"): lambda _tree: set(BUDGET_ORDERS),
    ("fleet/planner/enforce.py", "BUDGET_STOP"): lambda _tree: {BUDGET_STOP},
    ("fleet/planner/enforce.py", "BUDGET_DRAIN"): lambda _tree: {BUDGET_DRAIN},
}


def reason_codes() -> set[str]:
    found = set()
    for path, node in nodes(ast.Call):
        if ast.unparse(node.func) != "Reason":  # type: ignore[attr-defined]
            continue
        (code,) = [k.value for k in node.keywords if k.arg == "code"]  # type: ignore[attr-defined]
        if isinstance(code, ast.Constant):
            found.add(str(code.value))
            continue
        where = (path.relative_to(ROOT).as_posix(), ast.unparse(code))
        assert where in INDIRECT, f"{where}: write the code there, or say in INDIRECT where it comes from"
        found |= INDIRECT[where](ast.parse(path.read_text()))
    return found


def test_every_reason_has_its_row() -> None:
    assert set(OPERATIONS.rows("Reasons")) == reason_codes()


def test_codes_in_the_tables_of_symptoms_exist() -> None:
    for heading in ("A task waits", "Launches back off"):
        for table in OPERATIONS.tables(heading):
            assert {name for row in table.rows for name in names(row[0])} <= reason_codes()


# --- metrics, routes, endpoints, environment


def test_every_metric_has_its_row_with_its_labels_and_its_help() -> None:
    calls = [n for _, n in nodes(ast.Call, [ROOT / "fleet/web/metrics.py"]) if ast.unparse(n.func) == "_gauge"]  # type: ignore[attr-defined]
    gauges = {tuple(map(ast.literal_eval, n.args[:3])) for n in calls}  # type: ignore[attr-defined]
    for labels, metrics in ((MACHINE_LABELS, OF_MACHINE), (GPU_LABELS, OF_GPU)):
        gauges |= {(name, text, labels) for name, (text, _) in metrics.items()}
    rows = OPERATIONS.rows("Metrics")
    assert {(name, row[2], tuple(names(row[1]))) for name, row in rows.items()} == gauges


def test_every_test_that_the_page_on_security_names_exists() -> None:
    named = {name for row in Page(ROOT / "docs" / "security.md").rows("Threats").values() for name in names(row[2])}
    there = {node.name for _, node in nodes(ast.FunctionDef, list((ROOT / "tests").rglob("test_*.py")))}  # type: ignore[attr-defined]
    assert len(named) > 20
    assert named <= there, named - there


def test_every_metric_of_the_textfile_has_its_row_with_its_help() -> None:
    assert {name: row[2] for name, row in OPERATIONS.rows("The textfile of a machine").items()} == METRICS


def test_every_route_has_its_row() -> None:
    def nobody(_instance: object) -> None:
        raise AssertionError

    settings = WebSettings(cluster="x", budget=Budget(), queues=())
    web = create_web(MemoryStore(), settings, Hints(), nobody, lambda: datetime.now(UTC))  # type: ignore[arg-type]
    routes = {route.path: min(route.methods - {"HEAD"}) for route in web.routes}  # type: ignore[attr-defined]
    said = {path: row[1] for path, row in OPERATIONS.rows("Operator API").items()}
    least = {path: row[2].strip("`") for path, row in OPERATIONS.rows("Operator API").items()}
    assert least == {path: str(role) for path, role in LEAST.items()}
    beside = {path: method for path, method in routes.items() if path not in said}
    assert said == {path: method for path, method in routes.items() if path not in beside}
    assert all(path == "/" or path.startswith("/edge/v1/") for path in beside)
    assert [
        path for path in beside if f"`{path}`" not in OPERATIONS.text and f"`GET {path}`" not in OPERATIONS.text
    ] == []


def test_every_endpoint_has_its_row_and_says_whether_it_writes() -> None:
    rows = SERVER.rows("Endpoints")
    transactions = {name: "writing" if endpoint.writes else "reading" for name, endpoint in ENDPOINTS.items()}
    assert {name: row[1] for name, row in rows.items()} == {**transactions, LOGIN: "reading"}


def test_every_environment_variable_has_its_row() -> None:
    read = {name for text in texts() for name in re.findall(r"FLEET_[A-Z][A-Z0-9_]*", text)}
    assert set(OPERATIONS.rows("Environment variables")) == read


def test_every_moment_of_the_hooks_has_its_row() -> None:
    rows = Page(ROOT / "agent_hooks" / "README.md").rows("Hooks")
    said = {name: (row[3], row[4]) for name, row in rows.items()}
    assert said == {str(m): (f"{rule.time_limit_s} s", str(rule.on_failure)) for m, rule in MOMENTS.items()}


# --- the command line


def commands(command: Any, path: str = "fleet") -> Iterator[tuple[str, Any]]:
    """All that does something, by what one types."""
    below = getattr(command, "commands", {})
    if not below or getattr(command, "invoke_without_command", False):
        yield path, command
    for name, each in below.items():
        yield from commands(each, f"{path} {name}")


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_every_command_has_its_section_and_no_section_is_of_another() -> None:
    assert re.findall(r"^## (.*)$", CLI.text, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_is_told_as_it_tells_itself(path: str) -> None:
    command, said = COMMANDS[path], CLI.section(path)
    assert " ".join((command.help or "").split()) in said.splitlines()
    rows = [row for table in CLI.tables(path) for row in table.rows]
    for parameter, row in zip(command.params, rows, strict=True):
        if parameter.param_type_name == "option":
            assert names(row[0]) == parameter.opts
        else:
            assert names(row[0]) == [parameter.metavar or str(parameter.name).upper()]
        assert row[1] == getattr(parameter, "help", "")
        given = parameter.default not in (None, False, ())
        assert row[2] == ("required" if parameter.required else f"`{parameter.default}`" if given else "")


def shell_lines(page: Page) -> Iterator[list[str]]:
    for block in page.blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def test_the_readme_uses_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = list(shell_lines(README))
    assert len(lines) > 5
    for program, *rest in lines:
        assert program in (".", "make", "fleet")
        if program == "make":
            assert set(rest) <= targets
        elif program == "fleet":
            path = max((p for p in COMMANDS if f"fleet {' '.join(rest)} ".startswith(f"{p} ")), key=len, default=None)
            assert path, rest
            ours = rest[: rest.index("--")] if "--" in rest else rest
            options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
            assert {word for word in ours if word.startswith("-")} <= options


def test_commands_in_prose_exist() -> None:
    """`fleet x` in backticks, on every page."""
    first_words = {path.split()[1] for path in COMMANDS}
    for path in PAGES:
        said = set(re.findall(r"`fleet ([a-z]+)", Page(path).prose))
        assert said <= first_words, path


# --- links, and what may not be named


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    for link in Page(path).links:
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in Page(target).anchors, link


# In pieces, so that this file does not name them either.
HOSTS = (
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "ana" + "conda.org",
    "crates" + ".io",
)
PLACES = (r"(?<![\w.~$}\])-])/" + r"work(?![\w.-])", "/tm" + r"p/w\b")


def test_no_file_names_a_package_registry_or_a_place_of_the_machine_that_it_was_written_on() -> None:
    forbidden = re.compile("|".join([*map(re.escape, HOSTS), *PLACES]))
    found = []
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if forbidden.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []


def test_pages_have_no_long_dashes() -> None:
    dash = chr(0x2014)
    assert [path.name for path in PAGES if dash in path.read_text(encoding="utf-8")] == []
