"""The `fleet` command as a process in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


@dataclass
class Shell:
    """Somebody's shell: a working directory, an environment without anything of fleet's."""

    place: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET_", "CLEARML_"))}
        home = {"FLEET_HOME": str(self.place / "home"), "PYTHONPATH": str(ROOT)}
        self.environment = own | home | self.environment

    def fleet(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """One run of the command; it takes seconds, and a minute where Packer runs."""
        return subprocess.run(
            [sys.executable, "-m", "fleet", *arguments],
            cwd=self.place,
            env=self.environment | changes,
            capture_output=True,
            text=True,
            timeout=60 * PATIENCE,
            check=False,
        )

    def refusal(self, *arguments: str, code: int = 1, **changes: str) -> str:
        """The one line that a refused command says."""
        done = self.fleet(*arguments, **changes)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        if code == 1:
            assert done.stderr.startswith("fleet: ")
            assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.strip()
