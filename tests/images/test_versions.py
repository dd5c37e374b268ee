"""`images/versions.toml` is the one place for versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from fleet.assemble.baking import plugins, versions
from fleet.assemble.package import IMAGES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADDRESSES = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")
VERSION = re.compile(r"(?<![\w.])v?\d+\.\d+(\.\d+)*(?![\w.])")
FILES = sorted(
    path
    for path in (ROOT / "images").rglob("*")
    if path.is_file()
    and path.suffix not in (".lock", ".md")
    and path.name != "versions.toml"
    and "__pycache__" not in path.parts
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_else_names_a_version_but_a_default_of_a_dockerfile_which_is_the_same(path: Path) -> None:
    named = []
    for line in path.read_text().splitlines():
        argument = re.fullmatch(r"ARG PYTHON=(.*)", line)
        if argument:
            assert argument[1] == versions()["python"]["container"]
        elif not line.lstrip().startswith("#") and '"""' not in line and VERSION.search(ADDRESSES.sub("", line)):
            named.append(line)
    assert named == []


def test_nothing_of_fleet_and_no_page_names_a_version_that_is_baked() -> None:
    """`clearml-agent` is pinned in pyproject.toml too, for tests (below); a fleet file that `fleet init` writes names an image to begin with."""
    baked = {v for section in ("clearml", "nvidia", "aws", "gcp", "packer") for v in versions()[section].values()}
    baked -= {versions()["nvidia"]["driver"]}  # a number as many others; its place is found by its name
    branch = re.compile(rf"(nvidia\S*-|driver\W+){versions()['nvidia']['driver']}\b")
    example = 'of `clearml-agent`, as `"'
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "images").rglob("*.md")]
    sources = [path for name in ("fleet", "agent_hooks") for path in (ROOT / name).rglob("*.py")]
    said = {
        f"{path.name}: {line.strip()}"
        for path in [*pages, *sources]
        for line in path.read_text().splitlines()
        if example not in line and (branch.search(line) or any(f'"{v}"' in line or f" {v}" in line for v in baked))
    }
    assert said == set()


def test_what_fleet_init_begins_with_is_the_image_that_is_baked_from() -> None:
    starter = (ROOT / "fleet" / "config" / "starter_gcp.yaml").read_text()
    gcp = versions()["gcp"]
    assert f"projects/{gcp['source_project']}/global/images/family/{gcp['source_family']}" in starter


def test_pinned_lists_are_of_these_versions() -> None:
    agent = versions()["clearml"]["agent"]
    assert f"clearml-agent=={agent}" in PROJECT["optional-dependencies"]["agent"]
    assert f"\nclearml-agent=={agent} " in (IMAGES / "requirements-agent.lock").read_text()
    assert PROJECT["requires-python"] == f">={versions()['python']['minimum']}"


def test_the_edge_is_pinned_with_hashes_as_the_tests_run_it_and_names_no_host() -> None:
    whole = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for name in ("requirements-edge.lock", "requirements-agent.lock"):
        text = (IMAGES / name).read_text()
        pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
        assert pinned.items() <= whole.items()
        assert text.count("--hash=sha256:") >= len(pinned)
        assert "://" not in text
    wanted = {re.split(r"[<>=]", each)[0] for each in PROJECT["dependencies"]}
    edge = (IMAGES / "requirements-edge.lock").read_text()
    assert [name for name in wanted if f"\n{name}==" not in f"\n{edge}"] == []


def test_plugins_of_packer_are_pinned_there_too() -> None:
    for cloud, name in (("aws", "amazon"), ("gcp", "googlecompute")):
        assert f'version = "{versions()["packer"][name]}"' in plugins(cloud)
