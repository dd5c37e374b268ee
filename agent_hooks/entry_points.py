"""Hooks that come with installed packages: entry points of the group `fleet.hooks`.

    [project.entry-points."fleet.hooks"]
    pre-task = "our_package.hooks:check_licence"     the name is the moment
    "startup.scratch" = "our_package.hooks:scratch"  a second one of a package for the same moment: anything after a dot

Each is called in a Python of its own, so that its time limit, its crash and its memory are not the supervisor's. This file
is what runs there, as a script: `python entry_points.py our_package.hooks:check_licence`. The function gets the facts, a
dict of the FLEET_* variables; to return means to go on, to raise (or to exit with anything but 0) is a failure.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points as installed_ones
from pathlib import Path

GROUP = "fleet.hooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One entry point. Known by its text alone: the code behind it is never loaded here."""

    name: str  # the moment, and what follows a dot
    function: str  # `package.module:name`
    package: str  # that it was installed with

    @property
    def moment(self) -> str:
        return self.name.partition(".")[0]

    @property
    def command(self) -> tuple[str, ...]:
        # -P: a module of the same name in the working directory is not what was installed.
        return (sys.executable, "-P", str(Path(__file__)), self.function)


def installed() -> tuple[Installed, ...]:
    """All of this Python, by name, then by package. Takes milliseconds: to be asked for once."""
    found = [
        Installed(name=each.name, function=each.value, package=each.dist.name if each.dist else "")
        for each in installed_ones(group=GROUP)
    ]
    return tuple(sorted(found, key=lambda hook: (hook.name, hook.package)))


def main() -> None:
    """Call the function that the one argument names. Its exception is our end: Python prints it, and exits with 1."""
    hook = EntryPoint(name="hook", value=sys.argv[1], group=GROUP).load()
    hook({name: value for name, value in os.environ.items() if name.startswith("FLEET_")})


if __name__ == "__main__":
    main()
