"""Where clearml-agent is: beside the supervisor, or in an environment of its own, which the image names by FLEET_AGENT_PYTHON, so
that neither's packages are in the other's way."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path


def agent_python() -> str:
    """The interpreter that has clearml-agent."""
    return os.environ.get("FLEET_AGENT_PYTHON") or sys.executable


def agent_version() -> str | None:
    """Of the clearml-agent there; None: there is none. Read, not imported: importing it takes 30 MB."""
    package = _package()
    if package is None:
        return None
    found = re.search(r'__version__ = [\'"]([^\'"]+)', (package / "version.py").read_text())
    return found.group(1) if found else ""


def can_start_in_conda() -> bool:
    """Whether it can start a task in the conda environment that it has made. 3.0.0-3.0.3 cannot: they hand the environment's
    variables to a kind of command that does not take any. So their code is asked, not their number: a later one may."""
    package = _package()
    if package is None:
        return False
    _, _, commands_in_conda = (package / "helper" / "process.py").read_text().partition("class CommandSequence")
    hands_over = "command.update_envs(" in (package / "commands" / "worker.py").read_text()
    return not hands_over or "def update_envs" in commands_in_conda


def _package() -> Path | None:
    if agent_python() == sys.executable:
        spec = find_spec("clearml_agent")
        return Path(spec.origin).parent if spec and spec.origin else None
    places = Path(agent_python()).parents[1].glob("lib/python3*/site-packages/clearml_agent/version.py")
    return next((place.parent for place in places), None)
