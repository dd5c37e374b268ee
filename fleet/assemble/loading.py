"""The fleet file of a command: the one that was named, the default one, or this workstation. Nothing else is brought in here, so
that commands that only read need not wait for what a centre is made of."""

from __future__ import annotations

from pathlib import Path

from fleet.assemble.workstation import workstation
from fleet.config import Config, default_path
from fleet.config import load as load_file


def load(config: Path | None) -> Config:
    """The fleet file that was named, else the default one."""
    return load_file(config or default_path())


def load_or_workstation(config: Path | None = None) -> Config:
    """As `load`, or this workstation where there is no fleet file and none was named."""
    return load(config) if config or default_path().exists() else workstation()
