"""What a centre keeps on disk, and what it does when that is damaged or lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.assemble.state import StateDir, write_private
from fleet.errors import ConfigError


def test_a_secret_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    assert state.join_secret() == state.join_secret()
    assert (state.directory / "join_secret").stat().st_mode & 0o077 == 0
    assert state.directory.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "zz", "00" * 16])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "join_secret").write_text(text)
    with pytest.raises(ConfigError, match="remove it"):
        StateDir(tmp_path).join_secret()


@pytest.mark.parametrize("text", ["{}", "[]", '{"fleet": {}, "user": {}}', '{"fleet": 1}', "no json"])
def test_credentials_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "credentials.json").write_text(text)
    with pytest.raises(ConfigError, match="remove it"):
        StateDir(tmp_path).credentials()


def test_a_directory_is_for_one_dispatcher(tmp_path: Path) -> None:
    first = StateDir(tmp_path).lock()
    with pytest.raises(ConfigError, match="another dispatcher"):
        StateDir(tmp_path).lock()
    first.close()
    StateDir(tmp_path).lock().close()


def test_a_centre_that_was_killed_runs_no_more_though_its_file_is_there(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.running() is None
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        pass
    for said in ({"pid": killed.pid}, {"pid": None}, {"pid": 10**30}, {}, []):
        state.centre_file.write_text(json.dumps(said))
        assert state.running() is None
    state.centre_file.write_text(json.dumps({"pid": os.getpid(), "url": "http://x"}))
    assert state.running() == {"pid": os.getpid(), "url": "http://x"}


def test_a_file_that_cannot_be_written_leaves_no_part_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_private(tmp_path / "there", "text")
    assert os.listdir(tmp_path) == ["there"]


def test_a_link_in_the_place_of_the_new_file_is_not_followed(tmp_path: Path) -> None:
    """As in the supervisor's rooms: it is the same verb."""
    bait = tmp_path / "bait"
    bait.write_text("theirs")
    (tmp_path / f"secret.{os.getpid()}.new").symlink_to(bait)
    write_private(tmp_path / "secret", "ours")
    assert (bait.read_text(), (tmp_path / "secret").read_text()) == ("theirs", "ours")
    assert sorted(os.listdir(tmp_path)) == ["bait", "secret"]
