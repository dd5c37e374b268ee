"""A script on somebody's disk, described so that an agent on another machine can run it: for `fleet submit`."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from fleet.errors import ConfigError
from fleet.queues.base import Script

BINARIES = {".sh": "/bin/bash", ".bash": "/bin/bash"}  # others: python3
GIT_TIMEOUT_S = 20.0
MAX_DIFF_BYTES = 1_000_000  # the server keeps the diff in the task itself
MAX_SCRIPT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The script, and what its author should know: one sentence each, to be shown before it is sent."""

    script: Script
    warnings: tuple[str, ...] = ()


def describe_script(path: str | Path, args: Sequence[str], cwd: str | Path) -> Described:
    """How to run `path` (relative to `cwd`) with `args` elsewhere.

    Arguments arrive as they are given, but the agent replaces `$NAME` in them by its own environment, quoted or not.
    In a git repository with a remote: its URL, branch, commit and the uncommitted changes of tracked files. Otherwise the whole
    script travels in `diff`, alone.

    Raises:
        ConfigError: there is no such script, it cannot be read, or it cannot be sent.
    """
    file = _file(path, cwd)
    quoted = "".join(f" {shlex.quote(arg)}" for arg in args)
    root = _git(file.parent, "rev-parse", "--show-toplevel")
    if root is None:
        return Described(script=_alone(file, quoted))
    return _in_repository(file, quoted, Path(root), Path(cwd).resolve())


def _file(path: str | Path, cwd: str | Path) -> Path:
    shown = str(path)[:200].replace("\0", "\\0") if str(path).strip() else repr(str(path))
    try:
        file = (Path(cwd) / Path(path).expanduser()).resolve()
        if file.is_file():
            return file
        what = "is a directory" if file.is_dir() else "is no file" if file.exists() else "is not there"
    except (OSError, ValueError, RuntimeError):  # too long, a null, a circle of links, no such user
        what = "is not there"
    raise ConfigError(f"{shown}: {what}; give the path of a script, from {cwd}")


def _in_repository(file: Path, quoted: str, root: Path, cwd: Path) -> Described:
    relative = file.relative_to(root.resolve())
    remote = _remote(root)
    commit = _git(root, "rev-parse", "HEAD")
    why_alone = (
        "the repository has no remote"
        if remote is None
        else "the repository has no commit yet"
        if commit is None
        else f"{relative} is not under version control"
        if not _git(root, "ls-files", "--error-unmatch", "--", str(relative))
        else None
    )
    if why_alone or remote is None or commit is None:
        warning = f"{why_alone}: only {file.name} itself is sent, without the files beside it"
        return Described(script=_alone(file, quoted, root), warnings=(warning,))
    branch = _git(root, "symbolic-ref", "--short", "-q", "HEAD") or ""
    # As here: the script starts where its author stands, or beside itself if that is not in the repository above it.
    start = cwd if file.is_relative_to(cwd) and cwd.is_relative_to(root.resolve()) else file.parent
    script = Script(
        entry_point=shlex.quote(str(file.relative_to(start))) + quoted,
        working_dir=str(start.relative_to(root.resolve())),
        binary=_binary(file),
        repository=without_secrets(remote),
        branch=branch,
        version_num=commit,
        diff=_diff(root),
        requirements=_requirements(file, root),
    )
    return Described(script=script, warnings=tuple(_warnings(root, remote, commit)))


def _alone(file: Path, quoted: str, root: Path | None = None) -> Script:
    """The whole script in `diff`; the agent writes it to a file and runs that."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as text ({error}); give a Python or shell script") from error
    if not text.strip():
        raise ConfigError(f"{file}: is empty; there is nothing in it to run")
    if len(text.encode()) > MAX_SCRIPT_BYTES:
        raise ConfigError(f"{file}: {len(text) // 1024} KiB is too much for one script; put it into a git repository")
    return Script(
        entry_point=shlex.quote(file.name) + quoted,
        binary=_binary(file),
        diff=text,
        requirements=_requirements(file, root),
    )


def _diff(root: Path) -> str:
    """Changes of tracked files since the commit, staged ones included, as `git apply` takes them."""
    # Whatever the user's own settings are: prefixes a/ and b/, and binary files as patches; git apply takes nothing else.
    how = ["--no-color", "--no-ext-diff", "--no-textconv", "--binary", "--src-prefix=a/", "--dst-prefix=b/"]
    diff = _git(root, "diff", *how, "HEAD", strip=False) or ""
    if len(diff.encode()) > MAX_DIFF_BYTES:
        raise ConfigError(f"{root}: the uncommitted changes are {len(diff) // 1024} KiB; commit and push them first")
    return diff


def _warnings(root: Path, remote: str, commit: str) -> list[str]:
    warnings = []
    if not _git(root, "branch", "--remotes", "--contains", commit):
        warnings.append(f"commit {commit[:10]} is not pushed: machines cannot fetch it until you run git push")
    if untracked := (_git(root, "ls-files", "--others", "--exclude-standard") or "").splitlines():
        some = ", ".join(untracked[:3]) + (", ..." if len(untracked) > 3 else "")
        many = "1 untracked file is" if len(untracked) == 1 else f"{len(untracked)} untracked files are"
        warnings.append(f"{many} not sent ({some}); git add what the script needs")
    if without_secrets(remote) != remote:
        warnings.append(
            "the remote's URL holds credentials, which are not sent; machines use agent.git of the fleet file"
        )
    return warnings


def _remote(root: Path) -> str | None:
    """The URL that this branch follows; else origin's; else the first one's."""
    branch = _git(root, "symbolic-ref", "--short", "-q", "HEAD")
    followed = _git(root, "config", f"branch.{branch}.remote") if branch else None
    names = (_git(root, "remote") or "").splitlines()
    for name in (followed, "origin", *names):
        if name in names:
            return _git(root, "remote", "get-url", str(name))
    return None


def without_secrets(url: str) -> str:
    """The URL without user and password; `git@host:path` stays, its user is no secret."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and "@" in parts.netloc:
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return re.sub(r"^(ssh://[^:@/]+):[^@/]*@", r"\1@", url)


def _requirements(file: Path, root: Path | None) -> str | None:
    """requirements.txt beside the script, or at the repository's root."""
    for folder in (file.parent, root):
        if folder and (found := folder / "requirements.txt").is_file():
            return found.read_text(encoding="utf-8", errors="replace")
    return None


def _binary(file: Path) -> str:
    return BINARIES.get(file.suffix, "python3")


def _git(where: Path, *command: str, strip: bool = True) -> str | None:
    """What git prints; None if it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(where), *command], capture_output=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    text = done.stdout.decode("utf-8", "replace")
    return text.strip() if strip else text
