"""uv, Poetry and conda as the real clearml-agent drives them, for code in a private git repository of the test's own.

uv and Poetry are the real ones. The agent's releases 3.0.0 to 3.0.3 cannot start a task in conda (see `agent_home`). conda cannot be had from PyPI: what stands in for it records its calls, and makes
environments without installing anything (docs.conda.io: `conda create`, `conda env update`, `conda list`, `conda activate`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.config import parse
from fleet.model import AgentSettings, RunResult
from fleet.queues.base import Script, TaskStatus
from fleet.supervisor.agent_home import can_start_in_conda
from tests.folders import holding
from tests.system import git_server, poetry
from tests.system.edge import Person
from tests.system.git_server import GitServer, Repository
from tests.system.wheels import NAME, a_wheel
from tests.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("edge"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]
PASSWORD = "g1t-t0ken-of-the-lab"
PYTHON = f"python3.{sys.version_info.minor}"
TRAIN = """\
import sys
import a_tiny_package
print("uses", a_tiny_package.__file__)
print("prefix", sys.prefix)
sys.exit(len(sys.argv) - 1)
"""
UV_PROJECT = f"""\
[project]
name = "research"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["a-tiny-package"]
[tool.uv]
package = false
[tool.uv.sources]
a-tiny-package = {{path = "{NAME}"}}
"""
POETRY_PROJECT = f"""\
[tool.poetry]
package-mode = false
[tool.poetry.dependencies]
python = ">=3.11"
a-tiny-package = {{path = "{NAME}"}}
"""


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with git_server.serving(tmp_path_factory.mktemp("git"), "git", PASSWORD) as server:
        yield server


def settings(place: Path, agent: str, programs: Path | None = None, mode: str = "venv") -> AgentSettings:
    """As the fleet file says it, with all that git, uv and Poetry would keep in a home directory below `place`."""
    home = place / "home"
    home.mkdir()
    path = ":".join(filter(None, [str(programs or ""), str(Path(sys.prefix, "bin")), os.environ["PATH"]]))
    environment = f"{{PATH: '{path}', HOME: {home}, UV_OFFLINE: 1, PIP_NO_INDEX: 1, POETRY_CACHE_DIR: {home}/poetry}}"
    return parse(
        f"""
        cluster: x
        agent: {{mode: {mode}, cache_dir: {place}/caches, environment: {environment}, {agent}}}
        resources: {{lab: {{provider: local}}}}
        queues: {{train: {{resources: [lab]}}}}
        """,
        "fleet.yaml",
        {"TOKEN": PASSWORD, "WRONG": "not-the-t0ken"},
    ).agent


OURS = "git: {user: git, token: '${TOKEN}', host: 127.0.0.1}"


def submit(clearml: Person, code: Repository, arguments: str = "", requirements: str | None = "") -> str:
    script = Script(
        entry_point=f"train.py {arguments}".strip(),
        binary=PYTHON,
        repository=code.url,
        version_num=code.commit,
        requirements=requirements,
    )
    return clearml.client.submit(name="from git", project="tests", queue="train", script=script)


def a_project(place: Path, toml: str, lock: list[str]) -> dict[str, str | bytes]:
    """The files of a repository whose lock file the manager itself has made."""
    place.mkdir()
    a_wheel(place)
    (place / "pyproject.toml").write_text(toml)
    (place / "train.py").write_text(TRAIN)
    environment = {**os.environ, "HOME": str(place.parent), "UV_OFFLINE": "1"}
    done = subprocess.run(lock, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


def prefix(console: str) -> Path:
    (found,) = [line.split()[1] for line in console.splitlines() if line.startswith("prefix ")]
    return Path(found)


def test_uv_installs_what_the_lock_file_of_a_private_repository_says_and_exit_codes_come_through(
    machine, clearml, git, tmp_path
):
    code = git.add("with-uv", a_project(tmp_path / "project", UV_PROJECT, [sys.executable, "-m", "uv", "lock"]))
    here = machine(agent=settings(tmp_path, f"package_manager: uv, {OURS}"))
    task = submit(clearml, code, "one two three")
    assert clearml.ended(task, 90) == TaskStatus.FAILED, clearml.log(task)
    console = clearml.log(task)
    assert "using repository uv lock file" in console
    assert prefix(console).is_relative_to(here.directory)
    run = wait_for(lambda: here.centre.runs.get(task), 20)[0]
    assert (run.result, run.exit_code) == (RunResult.FAILED, 3)


def test_without_a_lock_file_uv_installs_the_requirements_of_the_task(machine, clearml, tmp_path):
    wheel = a_wheel(tmp_path)
    here = machine(
        agent=settings(tmp_path, "package_manager: uv, extra_conf: 'agent.package_manager.uv_replace_pip: true'")
    )
    task = clearml.submit("train", TRAIN, PYTHON, requirements=f"a_tiny_package @ file://{wheel}")
    assert clearml.ended(task, 90) == TaskStatus.COMPLETED, clearml.log(task)
    console = clearml.log(task)
    assert "using UV as pip drop-in replacement" in console
    assert prefix(console).is_relative_to(here.directory)


def test_poetry_installs_what_the_lock_file_of_a_private_repository_says(machine, clearml, git, tmp_path):
    try:
        programs = poetry.directory()
    except RuntimeError as error:
        pytest.skip(str(error))
    lock = [str(programs / "poetry"), "lock", "--no-interaction"]
    code = git.add("with-poetry", a_project(tmp_path / "project", POETRY_PROJECT, lock))
    here = machine(agent=settings(tmp_path, f"package_manager: poetry, {OURS}", programs))
    task = submit(clearml, code)
    assert clearml.ended(task, 240) == TaskStatus.COMPLETED, clearml.log(task)
    console = clearml.log(task)
    assert "using repository poetry lock file" in console
    assert prefix(console).is_relative_to(here.directory)
    assert prefix(console).name == ".venv"


def test_git_credentials_open_a_private_repository_and_are_seen_nowhere(machine, clearml, git, tmp_path):
    code = git.add("plain", {"train.py": "print('it runs')\n"})
    here = machine(agent=settings(tmp_path, f"{OURS}", mode="interpreter"))
    before = git.let_in
    task = submit(clearml, code)
    assert clearml.ended(task, 60) == TaskStatus.COMPLETED, clearml.log(task)
    console = clearml.log(task)
    assert "it runs" in console
    assert git.let_in > before
    assert git.told == []  # nobody's arguments held it while git was at work, with whatever manager
    assert PASSWORD not in console
    assert PASSWORD not in here.log.read_text()
    assert holding(tmp_path, PASSWORD) == []
    described = clearml.client._transport.call("tasks.get_all_ex", {"id": [task]})
    assert PASSWORD not in repr(described)


def test_with_wrong_git_credentials_a_task_fails_and_its_console_says_why(machine, clearml, git, tmp_path):
    code = git.add("closed", {"train.py": "print('it runs')\n"})
    wrong = "git: {user: git, token: '${WRONG}', host: 127.0.0.1}"
    machine(agent=settings(tmp_path, f"{wrong}", mode="interpreter"))
    before = git.let_in
    task = submit(clearml, code)
    assert clearml.ended(task, 60) == TaskStatus.FAILED, clearml.log(task)
    hint = "Check if remote-worker has valid credentials"  # the agent's last words come after its verdict
    console = wait_for(lambda: hint in (text := clearml.log(task)) and text, 10)
    assert f"Authentication failed for '{code.url}/'" in console
    assert "it runs" not in console
    assert "not-the-t0ken" not in console
    assert git.let_in == before


def test_a_machine_whose_agent_cannot_start_a_task_in_conda_says_so_and_ends(machine, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "conda").write_text("#!/bin/sh\necho conda 24.9.2\n")
    (programs / "conda").chmod(0o755)
    if can_start_in_conda():
        pytest.skip("the clearml-agent that is installed here can")
    here = machine(agent=settings(tmp_path, "package_manager: conda", programs))
    assert here.process.wait(30 * PATIENCE) == 1
    said = here.centre.goodbye
    assert said.reason.code == "agent_unusable"
    assert "cannot start the task in it" in said.reason.text
    assert "use uv, poetry or pip" in said.reason.text


CONDA = """\
#!/bin/bash
# conda, as far as the agent uses it. https://docs.conda.io/projects/conda/en/stable/commands/
echo "$@" >>{calls}
prefix=$(echo "$@" | sed -n 's/.* --*p[refix]* \\([^ ]*\\).*/\\1/p')
case "$1 $2" in
  "--version ") echo "conda 24.9.2" ;;
  "create --yes") {python} -m venv "$prefix" ;;                     # --prefix PATH python=X.Y
  "list --json") echo '[{{"name": "python", "version": "{version}", "channel": "conda-forge"}}]' ;;
  "env remove") rm -rf "$prefix" ;;
  *) echo '{{"success": true}}' ;;
esac
"""
CONDA_SH = """\
conda() {
  if [ "$1" = activate ]; then export CONDA_PREFIX="$2" PATH="$2/bin:$PATH"; else command conda "$@"; fi
}
"""


@pytest.mark.skipif(
    not can_start_in_conda(), reason="this clearml-agent cannot start a task in conda: see the test above"
)
def test_conda_is_asked_for_an_environment_and_the_task_runs_in_it(machine, clearml, tmp_path):
    conda, calls = tmp_path / "conda", tmp_path / "calls"
    (conda / "bin").mkdir(parents=True)
    (conda / "etc" / "profile.d").mkdir(parents=True)
    (conda / "etc" / "profile.d" / "conda.sh").write_text(CONDA_SH)
    version = f"3.{sys.version_info.minor}"
    (conda / "bin" / "conda").write_text(CONDA.format(calls=calls, python=PYTHON, version=version))
    (conda / "bin" / "conda").chmod(0o755)
    wheel = a_wheel(tmp_path)
    channels = "extra_conf: 'agent.package_manager.conda_channels: [\"lab\"]'"
    here = machine(agent=settings(tmp_path, f"package_manager: conda, {channels}", conda / "bin"))
    task = clearml.submit(
        "train", "import sys\nprint('prefix', sys.prefix)\n", PYTHON, requirements=f"a_tiny_package @ file://{wheel}"
    )
    assert clearml.ended(task, 90) == TaskStatus.COMPLETED, clearml.log(task)
    console = clearml.log(task)
    assert prefix(console).is_relative_to(here.directory)
    asked = calls.read_text().splitlines()
    made = [line.replace("--mkdir ", "") for line in asked]  # which releases before 3.0 say besides
    assert f"create --yes --prefix {prefix(console)} python={version}" in made
    assert any(line.startswith(f"env update -p {prefix(console)} --file ") for line in asked)
