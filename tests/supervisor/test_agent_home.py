"""Where clearml-agent is, and what its release can do: read from its files, never imported."""

from pathlib import Path

import pytest

from fleet.errors import AgentUnusable
from fleet.model import AgentSettings
from fleet.supervisor.agent_home import agent_version, can_start_in_conda
from fleet.supervisor.runner import check

ARGV = "class Argv:\n    def update_envs(self, envs): ...\n"
OLD = {"process": "class Argv: ...\nclass CommandSequence: ...\n", "worker": "command.call()\n"}
BROKEN = {"process": f"{ARGV}class CommandSequence: ...\n", "worker": "command.update_envs(os.environ)\n"}
MENDED = {
    "process": f"{ARGV}class CommandSequence:\n    def update_envs(self, envs): ...\n",
    "worker": BROKEN["worker"],
}


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make an environment of its own for a clearml-agent with this code, and be told of it as images are."""

    def put(process: str, worker: str) -> None:
        package = tmp_path / "lib" / "python3.11" / "site-packages" / "clearml_agent"
        for part in ("helper", "commands"):
            (package / part).mkdir(parents=True)
        (package / "version.py").write_text("__version__ = '9.9.9'\n")
        (package / "helper" / "process.py").write_text(process)
        (package / "commands" / "worker.py").write_text(worker)
        monkeypatch.setenv("FLEET_AGENT_PYTHON", str(tmp_path / "bin" / "python"))

    return put


@pytest.mark.parametrize(("code", "can"), [(OLD, True), (BROKEN, False), (MENDED, True)])
def test_whether_a_release_can_start_a_task_in_conda_is_read_from_its_code(
    put, code: dict[str, str], can: bool
) -> None:
    put(**code)
    assert agent_version() == "9.9.9"
    assert can_start_in_conda() == can


def test_a_machine_is_asked_for_programs_where_its_agents_will_look(put, tmp_path: Path) -> None:
    put(**BROKEN)
    (tmp_path / "conda").write_text("#!/bin/sh\n")
    (tmp_path / "conda").chmod(0o755)
    with pytest.raises(AgentUnusable, match=r"^agent.package_manager conda is not on this machine"):
        check(AgentSettings(mode="venv", package_manager="conda", environment={"PATH": "/nowhere"}))
    with pytest.raises(AgentUnusable, match=r"clearml-agent 9.9.9 makes an environment and then cannot start"):
        check(AgentSettings(mode="venv", package_manager="conda", environment={"PATH": str(tmp_path)}))
