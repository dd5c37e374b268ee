"""What is run at certain moments: the executables `<directory>/<moment>/*` in the order of their names, then the entry
points of installed packages.

Facts come by environment (`FLEET_*`), exit 0 means go on. When each moment comes, how long a hook may take and what
its failure does is in the table of `agent_hooks/README.md`; MOMENTS is that table in code.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from agent_hooks.entry_points import Installed, installed

OUTPUT_KEPT = 2000  # bytes of a failed hook's last words


class Moment(StrEnum):
    STARTUP = "startup"
    PRE_TASK = "pre-task"
    POST_TASK = "post-task"
    NOTICE = "notice"
    DRAIN = "drain"
    SHUTDOWN = "shutdown"


class OnFailure(StrEnum):
    END_MACHINE = "ends the machine"
    PUT_TASK_BACK = "puts the task back"
    LOG = "is logged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    time_limit_s: int  # for each hook of the moment
    on_failure: OnFailure


MOMENTS = {
    Moment.STARTUP: Rule(time_limit_s=300, on_failure=OnFailure.END_MACHINE),
    Moment.PRE_TASK: Rule(time_limit_s=120, on_failure=OnFailure.PUT_TASK_BACK),
    Moment.POST_TASK: Rule(time_limit_s=120, on_failure=OnFailure.LOG),
    Moment.NOTICE: Rule(time_limit_s=20, on_failure=OnFailure.LOG),  # the shortest notice of a cloud is 30 s
    Moment.DRAIN: Rule(time_limit_s=30, on_failure=OnFailure.LOG),
    Moment.SHUTDOWN: Rule(time_limit_s=60, on_failure=OnFailure.LOG),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One of a moment."""

    name: str  # its file, or its function and the package that it came with
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFailure:
    """The hook that stopped a moment: the ones after it were not run."""

    hook: str  # its name
    text: str  # what happened, with its last words


class Hooks:
    """The hooks of one directory (one that is not there has none) and of the installed packages."""

    def __init__(
        self,
        directory: Path | None,
        facts: Mapping[str, str] | None = None,
        packaged: Sequence[Installed] | None = None,
        at_startup: Sequence[Hook] = (),
    ) -> None:
        """`facts`: of the machine, given to every hook. `packaged`: those of packages; None: those that are installed now.
        `at_startup`: run before all others when the machine starts."""
        self._directory = directory
        self._facts = dict(facts or {})
        self._at_startup = tuple(at_startup)
        self._packaged = installed() if packaged is None else tuple(packaged)

    def of(self, moment: Moment) -> tuple[Hook, ...]:
        """In order. The directory is read anew each time, so that a hook can be added while we run."""
        files = [Hook(name=str(path), command=(str(path),)) for path in self._files(moment)]
        packaged = [
            Hook(name=f"{each.function} ({each.package})", command=each.command)
            for each in self._packaged
            if each.moment == moment
        ]
        return (*(self._at_startup if moment is Moment.STARTUP else ()), *files, *packaged)

    def _files(self, moment: Moment) -> list[Path]:
        """The executables. Of a directory that cannot be looked into nobody knows what it holds: it stands for them, and fails."""
        if self._directory is None:
            return []
        place = self._directory / moment
        try:
            return [path for path in sorted(place.iterdir()) if path.is_file() and os.access(path, os.X_OK)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            return [place]

    def run(self, moment: Moment, facts: Mapping[str, str] | None = None) -> HookFailure | None:
        """Run all of a moment; the first failure ends it. Blocks up to the time limit of each."""
        rule = MOMENTS[moment]
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("FLEET_", "CLEARML_"))}
        environment = {**keep, **self._facts, **(facts or {})}
        environment |= {"FLEET_MOMENT": moment, "FLEET_DEADLINE_S": str(rule.time_limit_s)}
        for hook in self.of(moment):
            failure = _run_one(hook, environment, rule.time_limit_s)
            if failure:
                return failure
        return None


def _place_for_words() -> IO[bytes]:
    """For what a hook prints: on the disk, or in memory where the disk takes nothing.

    Raises:
        OSError: neither does.
    """
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return os.fdopen(os.memfd_create("hook"), "w+b")


def _run_one(hook: Hook, environment: Mapping[str, str], time_limit_s: float) -> HookFailure | None:
    # Into a file: a hook may leave a daemon behind that keeps its output open, and that is no reason to wait. One that is to make
    # room on a full disk must be run there too.
    try:
        place = _place_for_words()
    except OSError as error:
        return HookFailure(hook=hook.name, text=f"cannot be run: {error.strerror}")
    with place as output:
        try:
            process = subprocess.Popen(
                hook.command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            hint = "may we look into it?" if os.path.isdir(hook.command[0]) else "is its first line right?"
            return HookFailure(hook=hook.name, text=f"cannot be run: {error.strerror}; {hint}")
        try:
            exit_code = process.wait(timeout=time_limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return HookFailure(hook=hook.name, text=f"was ended after its time limit of {time_limit_s:g} s")
        if exit_code == 0:
            return None
        output.seek(max(output.seek(0, os.SEEK_END) - OUTPUT_KEPT, 0))
        words = output.read().decode(errors="replace").strip()
        return HookFailure(hook=hook.name, text=f"exit code {exit_code}{words and f': {words}'}")
