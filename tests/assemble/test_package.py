"""The package for machines: what the dispatcher hands out, and what is in it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fleet import __version__
from fleet.assemble import package
from fleet.assemble.package import contents, package_file, write_package
from fleet.model import Budget
from fleet.web.settings import WebSettings
from tests.waiting import PATIENCE
from tests.web.nouns import Web, serving


def test_the_same_installation_gives_the_same_file_and_an_older_one_is_removed(tmp_path: Path) -> None:
    (tmp_path / "package-0123456789abcdef.tar.gz").touch()
    first = package_file(tmp_path)
    made = first.stat()
    assert package_file(tmp_path) == first
    assert first.stat() == made
    assert list(tmp_path.iterdir()) == [first]


def test_whoever_reaches_the_port_may_have_it(tmp_path: Path) -> None:
    settings = WebSettings(
        cluster="x", budget=Budget(), queues=(), operator_token="t", package=lambda: package_file(tmp_path)
    )
    with serving(Web(settings=settings)) as web:
        answer = web.get("/edge/v1/package")
    assert answer.status_code == 200
    (tmp_path / "got").write_bytes(answer.content)
    with tarfile.open(tmp_path / "got") as archive:
        assert archive.getnames() == list(contents())
    assert len(answer.content) < 3_000_000


def test_fleet_is_in_it_as_a_wheel_that_pip_installs_without_any_index(tmp_path: Path) -> None:
    write_package(tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        pip = ["uv", "pip"]  # an environment that uv made has no pip
    done = subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)],
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = subprocess.run(
        [sys.executable, "-c", "import fleet, agent_hooks; print(fleet.__file__, fleet.__version__)"],
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout.split()
    assert said == [str(target / "fleet" / "__init__.py"), __version__]
    assert (target / "bin" / "fleet").exists()


def test_nothing_in_it_is_of_this_computer(tmp_path: Path) -> None:
    write_package(tmp_path)
    here = [str(Path.home()), str(Path(__file__).parents[2])]
    texts = [path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert [word for text in texts for word in here if word != "/root" and word in text] == []


def test_two_machines_that_ask_for_it_at_once_get_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a thread of its own: one wrote into the other's file, and took it away."""
    files = {"fleet.whl": bytes(range(256)) * 1000, "versions.toml": b"[versions]\n"}

    class Files(dict[str, bytes]):
        """While they are written somebody else asks."""

        looks = 0

        def items(self) -> Any:
            self.looks += 1
            for number, each in enumerate(super().items()):
                if number and self.looks == 2:
                    monkeypatch.setattr(package, "contents", lambda: files)
                    found.append(package_file(tmp_path))
                yield each

    found: list[Path] = []
    monkeypatch.setattr(package, "contents", lambda: Files(files))
    found.append(package_file(tmp_path))
    assert found == [found[0]] * 2
    assert list(tmp_path.iterdir()) == found[:1]
    with tarfile.open(found[0]) as archive:
        assert {each.name: archive.extractfile(each).read() for each in archive} == files  # type: ignore[union-attr]
