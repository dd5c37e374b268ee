"""The provider of docs/providers.md is what it says: it installs, fleet finds it, and it keeps the contract."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from fleet.assemble.providers import GROUP, providers_of
from fleet.assemble.state import state_of
from fleet.config import parse
from fleet.config.resources import installed
from fleet.errors import ProviderError
from tests.markdown import Page
from tests.providers.contract import Ground, ProviderContract
from tests.waiting import PATIENCE

PAGE = Page(Path(__file__).parents[2] / "docs" / "providers.md")
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
# A cloud in a file. What it is told to do to the next calls lies beside it.
PROGRAM = """\
#!{python}
import fcntl, json, os, sys, time
home = {home!r}
trouble = os.path.join(home, "trouble")
if os.path.exists(trouble):
    what = open(trouble).read()
    if what == "hang":
        time.sleep(60)
    if what == "garble":
        print('{{"id": "m-')
        sys.exit(0)
    print("Quota of calls per minute\\\\nis used up" if what == "5" else "key unknown", file=sys.stderr)
    sys.exit(int(what))
verb, asked = sys.argv[1], json.load(sys.stdin)
with open(os.path.join(home, "cloud.json"), "a+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.seek(0)
    machines = json.loads(file.read() or "[]")
    ended = [m for m in machines if m["ended"]]
    answer = {{}}
    if verb == "launch":
        mine = [m for m in machines if m["name"] == asked["name"] and m["tags"] == asked["tags"]]
        if not mine:
            mine = [dict(asked, id=f"m-{{len(machines):04}}x", launched_at=time.time(), ended=False)]
            machines += mine
        answer = mine[0]
    elif verb == "list":
        answer = [m for m in machines if not m["ended"]]
    else:
        for m in machines:
            m["ended"] = m["ended"] or m["id"] in asked["ids"]
    file.seek(0)
    file.truncate()
    json.dump(machines, file)
print(json.dumps(answer))
"""
FLEET_FILE = """\
cluster: test
state_dir: {home}/state
resources:
  mine: {{provider: program, program: {home}/my-cloud, instance_types: [big, bigger], gpus: 2, usd_per_hour: 1.20}}
queues:
  train: {{resources: [mine]}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin as pip would leave it: built to a wheel by its own pyproject.toml, and unpacked."""
    source, site = tmp_path_factory.mktemp("fleet-program"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(PAGE.blocks("toml")[0])
    (source / "fleet_program.py").write_text(PAGE.blocks("python")[0])
    command = [sys.executable, "-c", BUILD, str(source / "dist")]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120 * PATIENCE)
    assert built.returncode == 0, built.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


class OfAProgram:
    """What the program does from now on."""

    def __init__(self, home: Path) -> None:
        self.file = home / "trouble"

    def hang(self) -> None:
        self.file.write_text("hang")

    def throttle(self) -> None:
        self.file.write_text("5")

    def refuse_credentials(self) -> None:
        self.file.write_text("4")

    def garble(self) -> None:
        self.file.write_text("garble")


class TestPlugin(ProviderContract):
    @pytest.fixture
    def ground(self, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
        monkeypatch.syspath_prepend(str(site))
        installed.cache_clear()
        program = tmp_path / "my-cloud"
        program.write_text(PROGRAM.format(python=sys.executable, home=str(tmp_path)))
        program.chmod(0o755)
        config = parse(FLEET_FILE.format(home=tmp_path), "fleet.yaml", {})
        provider: Any = providers_of(config, state_of(config))["program"]
        provider.time_limit_s = 1.0
        trouble = OfAProgram(tmp_path)
        yield Ground(provider=provider, resource=config.resources[0], trouble=trouble, patience_s=1.0)
        installed.cache_clear()

    def test_it_is_found_by_its_entry_point(self, ground: Ground, site: Path) -> None:
        (point,) = entry_points(group=GROUP, name="program")
        assert (point.value, point.dist and point.dist.version) == ("fleet_program:make", "1.0")
        assert Path(str(sys.modules["fleet_program"].__file__)).parent == site


def test_it_is_short() -> None:
    assert len(PAGE.blocks("python")[0].splitlines()) < 80


def test_errors_are_told_as_the_code_has_them() -> None:
    """Each class that a provider may raise has its row, and no other."""
    (table,) = [t for t in PAGE.tables() if t.head[0] == "raise"]
    assert {re.sub("`", "", row[0]) for row in table.rows} == {kind.__name__ for kind in ProviderError.__subclasses__()}
