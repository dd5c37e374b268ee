"""A script on a laptop, described so that an agent elsewhere runs the same: real git repositories."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fleet.errors import ConfigError
from fleet.queues.base import Script
from fleet.queues.scripts import Described, describe_script, without_secrets


def git(where: Path, *command: str) -> str:
    nobody = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    names = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(where), *command],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **nobody, **names},
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A clone with one pushed commit: src/train.py, src/data.txt."""
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    (work / "src").mkdir()
    (work / "src" / "train.py").write_text("print('one')\n")
    (work / "src" / "data.txt").write_text("1\n")
    git(work, "add", ".")
    git(work, "commit", "-qm", "one")
    git(work, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(work, "push", "-q", "-u", "origin", "main")
    return work


def test_a_script_in_a_repository_is_its_commit(repository: Path) -> None:
    assert describe_script("src/train.py", ["--lr", "0.1", "--name", "a b"], repository) == Described(
        script=Script(
            entry_point="src/train.py --lr 0.1 --name 'a b'",
            working_dir=".",
            repository=str(repository.parent / "origin.git"),
            branch="main",
            version_num=git(repository, "rev-parse", "HEAD"),
        )
    )


def test_it_starts_where_its_author_stands(repository: Path) -> None:
    from_inside = describe_script("train.py", [], repository / "src").script
    assert (from_inside.entry_point, from_inside.working_dir) == ("train.py", "src")
    from_outside = describe_script(repository / "src" / "train.py", [], repository.parent).script
    assert (from_outside.entry_point, from_outside.working_dir) == ("train.py", "src")


def test_uncommitted_changes_travel_staged_or_not_and_can_be_applied(repository: Path, tmp_path: Path) -> None:
    (repository / "src" / "train.py").write_text("print('two')\n")
    (repository / "src" / "data.txt").write_text("2\n")
    git(repository, "add", "src/data.txt")
    (repository / "src" / "added.py").write_text("x = 1\n")
    (repository / "src" / "picture").write_bytes(bytes(range(256)))
    git(repository, "add", "src/added.py", "src/picture")
    git(repository, "config", "diff.noprefix", "true")
    script = describe_script("src/train.py", [], repository).script
    assert script.diff.startswith("diff ")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", script.repository, str(clone))
    (tmp_path / "changes").write_text(script.diff)
    git(clone, "apply", str(tmp_path / "changes"))
    assert [(clone / "src" / name).read_text() for name in ("train.py", "data.txt", "added.py")] == [
        "print('two')\n",
        "2\n",
        "x = 1\n",
    ]
    assert (clone / "src" / "picture").read_bytes() == bytes(range(256))


def test_a_new_script_that_was_added_is_sent_as_a_change(repository: Path) -> None:
    (repository / "new.py").write_text("print()\n")
    git(repository, "add", "new.py")
    script = describe_script("new.py", [], repository).script
    assert "+++ b/new.py" in script.diff


def test_a_script_that_git_does_not_know_is_sent_alone(repository: Path) -> None:
    (repository / "new.py").write_text("print()\n")
    described = describe_script("new.py", [], repository)
    assert described == Described(
        script=Script(entry_point="new.py", diff="print()\n"),
        warnings=("new.py is not under version control: only new.py itself is sent, without the files beside it",),
    )


def test_a_commit_that_was_not_pushed_and_files_that_git_does_not_know_are_warned_of(repository: Path) -> None:
    (repository / "src" / "train.py").write_text("print('two')\n")
    git(repository, "commit", "-qam", "two")
    (repository / "notes.txt").write_text("")
    commit = git(repository, "rev-parse", "HEAD")
    assert describe_script("src/train.py", [], repository).warnings == (
        f"commit {commit[:10]} is not pushed: machines cannot fetch it until you run git push",
        "1 untracked file is not sent (notes.txt); git add what the script needs",
    )


def test_a_repository_without_a_remote_or_a_commit_sends_the_script_alone(repository: Path, tmp_path: Path) -> None:
    git(repository, "remote", "remove", "origin")
    described = describe_script("src/train.py", ["1"], repository)
    assert described.script == Script(entry_point="train.py 1", diff="print('one')\n")
    assert described.warnings[0].startswith("the repository has no remote: only train.py itself is sent")
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    git(empty, "remote", "add", "origin", "git@host:x.git")
    (empty / "a.py").write_text("1\n")
    assert describe_script("a.py", [], empty).warnings[0].startswith("the repository has no commit yet")


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    assert describe_script("src/train.py", [], repository).script.branch == ""


def test_the_remote_that_the_branch_follows_is_the_one(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "fork.git")
    git(repository, "remote", "add", "fork", str(tmp_path / "fork.git"))
    git(repository, "push", "-q", "-u", "fork", "main")
    assert describe_script("src/train.py", [], repository).script.repository == str(tmp_path / "fork.git")


def test_a_password_in_the_remote_is_not_sent(repository: Path) -> None:
    git(repository, "remote", "set-url", "origin", "https://me:hunter2@host/x.git")
    described = describe_script("src/train.py", [], repository)
    assert described.script.repository == "https://host/x.git"
    assert "hunter2" not in repr(described)
    assert described.warnings[-1].startswith("the remote's URL holds credentials, which are not sent")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://token@host:8443/x", "https://host:8443/x"),
        ("https://host/a@b", "https://host/a@b"),
        ("http://u:p@host/x", "http://host/x"),
        ("git@host:path.git", "git@host:path.git"),
        ("ssh://git@host/path", "ssh://git@host/path"),
        ("ssh://git:pw@host/path", "ssh://git@host/path"),
        ("/a/path", "/a/path"),
    ],
)
def test_urls_lose_their_secrets_alone(url: str, expected: str) -> None:
    assert without_secrets(url) == expected


def test_outside_git_the_whole_script_is_sent_with_its_requirements(tmp_path: Path) -> None:
    (tmp_path / "a b.py").write_text("print('ü')\n", encoding="utf-8")
    (tmp_path / "requirements.txt").write_text("numpy\n")
    script = describe_script("a b.py", ["$HOME", "*"], tmp_path).script
    assert script == Script(entry_point="'a b.py' '$HOME' '*'", diff="print('ü')\n", requirements="numpy\n")


def test_requirements_beside_the_script_win_over_those_at_the_root(repository: Path) -> None:
    (repository / "requirements.txt").write_text("root\n")
    assert describe_script("src/train.py", [], repository).script.requirements == "root\n"
    (repository / "src" / "requirements.txt").write_text("beside\n")
    assert describe_script("src/train.py", [], repository).script.requirements == "beside\n"


def test_a_shell_script_runs_in_a_shell(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("nvidia-smi\n")
    assert describe_script("run.sh", [], tmp_path).script.binary == "/bin/bash"


def test_what_cannot_be_sent_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge.py").write_text("#" * 2_000_000)
    (tmp_path / "empty.py").write_text("\n")
    for path, expected in (
        ("none.py", f"none.py: is not there; give the path of a script, from {tmp_path}"),
        (".", f".: is a directory; give the path of a script, from {tmp_path}"),
        (" ", f"' ': is not there; give the path of a script, from {tmp_path}"),
        ("binary", "cannot be read as text"),
        ("empty.py", "empty.py: is empty; there is nothing in it to run"),
        ("huge.py", "is too much for one script; put it into a git repository"),
        ("a\0b", "is not there"),
        ("/dev/null", f"/dev/null: is no file; give the path of a script, from {tmp_path}"),
        ("x" * 5000, "is not there"),
    ):
        with pytest.raises(ConfigError) as refused:
            describe_script(path, [], tmp_path)
        assert expected in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_large_change_must_be_committed_first(repository: Path) -> None:
    (repository / "src" / "data.txt").write_text("x\n" * 1_000_000)
    with pytest.raises(ConfigError, match="commit and push them first"):
        describe_script("src/train.py", [], repository)


def test_without_git_the_script_is_sent_alone(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert describe_script("src/train.py", [], repository).script.diff == "print('one')\n"
