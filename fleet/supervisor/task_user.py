"""FLEET_TASK_USER: in the modes `venv` and `interpreter` tasks run as this user, and what is the supervisor's stays closed to them.

Only root can start processes as somebody else. What a task needs is opened to its user's group, and no more: the way to its own
directory, `clearml.conf`, the bundle of authorities. Source: docs/adr/0048-task-user.md
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from fleet.errors import AgentUnusable

VARIABLE = "FLEET_TASK_USER"
PASS = 0o711  # others may go through it, and see nothing
FOR_GROUP = 0o640
# Of the supervisor's environment: places that are its user's own.
OF_A_USER = ("HOME", "USER", "LOGNAME", "MAIL", "SHELL")


class Rights(TypedDict, total=False):
    """What `subprocess.Popen` is given; empty: those of the supervisor."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUser:
    """Whose processes tasks are."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]  # `video`, `render` and the like
    home: str

    @property
    def rights(self) -> Rights:
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}

    def environment(self, ours: Mapping[str, str]) -> dict[str, str]:
        """`ours` as it is for this user."""
        kept = {key: value for key, value in ours.items() if key not in OF_A_USER and not key.startswith("XDG_")}
        return {**kept, "HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": "/bin/sh"}

    def own(self, path: Path) -> None:
        """It is the user's from now on. Only for what we have just made in a directory where nobody else may write."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def share(self, file: Path) -> None:
        """The user may read it, and its directory is open to pass through."""
        os.chown(file, -1, self.gid, follow_symlinks=False)
        file.chmod(FOR_GROUP)

    def check(self, directory: Path, file: Path, program: str) -> None:
        """Whether it may enter, read and run these, tried as this user.

        Raises:
            AgentUnusable: it may not.
        """
        for right, path in (("-x", directory), ("-r", file)):
            if not self._may(right, path):
                raise AgentUnusable(
                    f"{VARIABLE} {self.name} cannot reach {path}; put FLEET_DIR and FLEET_RUN_DIR where every directory above "
                    "them is open to pass through (mode 0711), as below /var/lib and /run"
                )
        if not self._may("-x", Path(program)):
            raise AgentUnusable(
                f"{VARIABLE} {self.name} cannot run {program}; put clearml-agent where every user may run it, and name its "
                "interpreter by FLEET_AGENT_PYTHON"
            )

    def _may(self, right: str, path: Path) -> bool:
        return subprocess.run(["/usr/bin/test", right, str(path)], check=False, cwd="/", **self.rights).returncode == 0


def task_user(environ: Mapping[str, str]) -> TaskUser | None:
    """As the environment names it; None: tasks run as the supervisor's own user.

    Raises:
        AgentUnusable: there is no such user, it is root, or we are not.
    """
    name = environ.get(VARIABLE)
    if not name:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise AgentUnusable(
            f"{VARIABLE} {name}: no such user on this machine; make it with useradd, in the image"
        ) from error
    if found.pw_uid == 0:
        raise AgentUnusable(f"{VARIABLE} {name}: root is no user for tasks; name one that owns nothing")
    if os.geteuid() != 0:
        raise AgentUnusable(
            f"{VARIABLE} {name}: only root may run tasks as another user; run the supervisor as root, or unset it"
        )
    return TaskUser(
        name=name,
        uid=found.pw_uid,
        gid=found.pw_gid,
        groups=tuple(os.getgrouplist(name, found.pw_gid)),
        home=found.pw_dir,
    )


def let_pass(directory: Path) -> None:
    """Others may go through this directory of ours, and through the one above it where that is fleet's alone too."""
    for each in (directory, directory.parent):
        seen = each.stat()
        if each is directory or (seen.st_uid == os.geteuid() and each.name in ("fleet", f"fleet-{os.geteuid()}")):
            each.chmod(seen.st_mode & 0o777 | PASS)
