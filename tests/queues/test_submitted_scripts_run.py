"""What `submit` sends is what the real, unmodified clearml-agent runs: with its arguments, its changes, its requirements."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.queues.client import ClearMLServer
from fleet.queues.scripts import describe_script
from tests.queues.test_client_against_server import ServerProcess
from tests.queues.test_client_against_server import pytestmark as needs_the_server
from tests.queues.test_scripts import git
from tests.waiting import PATIENCE

AGENT = Path(sys.executable).with_name("clearml-agent")
pytestmark = [
    *needs_the_server,
    pytest.mark.skipif(not AGENT.exists(), reason="clearml-agent is not installed beside this interpreter"),
]
SCRIPT = """\
import sys, os
print("args", sys.argv[1:], "in", os.path.basename(os.getcwd()))
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("server"))
    yield process
    process.stop()


def run(process: ServerProcess, home: Path, script: Path, args: list[str], cwd: Path) -> str:
    """Submit from `cwd`, execute with a real agent; what the script printed."""
    client = ClearMLServer(process.access)
    client.ensure_queues(["train"])
    described = describe_script(script, args, cwd)
    task = client.submit(name="a script", project="tests", queue="train", script=described.script)
    home.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "CLEARML_API_HOST": process.access.api_url,
        "CLEARML_WEB_HOST": process.access.api_url,
        "CLEARML_FILES_HOST": process.access.api_url,
        "CLEARML_API_ACCESS_KEY": process.access.access_key,
        "CLEARML_API_SECRET_KEY": process.access.secret_key,
        "CLEARML_API_DEFAULT_REQ_METHOD": "POST",
        "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1",
        "CLEARML_AGENT__AGENT__DISABLE_AGENT_UPDATE_CHECK": "true",
    }
    done = subprocess.run(
        [AGENT, "execute", "--disable-monitoring", "--id", task],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=90 * PATIENCE,
        check=False,
    )
    client.close()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return next(line for line in done.stdout.splitlines() if line.startswith("args"))


def test_a_script_outside_git_runs_with_its_arguments(process: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "my script.py").write_text(SCRIPT)
    printed = run(process, tmp_path / "home", Path("my script.py"), ["--lr", "0.1", "a b", "x;y"], tmp_path)
    assert printed.startswith("args ['--lr', '0.1', 'a b', 'x;y']")


def test_a_script_in_git_runs_with_its_uncommitted_changes(process: ServerProcess, tmp_path: Path) -> None:
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    work = tmp_path / "work"
    (work / "src").mkdir(parents=True)
    git(work, "init", "-q", "-b", "main")
    (work / "src" / "train.py").write_text("raise SystemExit('the commit without its changes')\n")
    git(work, "add", ".")
    git(work, "commit", "-qm", "one")
    git(work, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(work, "push", "-q", "-u", "origin", "main")
    (work / "src" / "train.py").write_text(SCRIPT)
    printed = run(process, tmp_path / "home", Path("train.py"), ["1"], work / "src")
    assert printed == "args ['1'] in src"
