"""Tasks as another user than the supervisor: what is open to them, and what is not."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import AgentUnusable
from fleet.model import AgentSettings, GpuNeed, ServerAccess, Task
from fleet.supervisor import runner as runner_module
from fleet.supervisor.agents import Order
from fleet.supervisor.processes import Guard, adopt_orphans
from fleet.supervisor.runner import Runner
from fleet.supervisor.task_user import VARIABLE, task_user
from tests.waiting import is_alive, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may run tasks as another user")

ACCESS = ServerAccess(
    api_url="http://api", files_url="", web_url="", access_key="A", secret_key="S", authority="AUTHORITY"
)
ORDER = Order(
    mark="a1",
    task=Task(
        id="t",
        queue="q",
        position=0,
        enqueued_at=datetime(2026, 1, 1, tzinfo=UTC),
        need=GpuNeed(at_least=0, at_most=0),
        name="t",
    ),
    worker="w",
    gpus=(),
)
SCRIPT = """
exec 2>&1
echo "$(id -un) $USER $HOME ${XDG_RUNTIME_DIR-none}"
head -c 5 "$CLEARML_CONFIG_FILE" && echo " conf"
tail -n 1 "$REQUESTS_CA_BUNDLE"; echo
echo x >"$TMPDIR/mine" && echo written
cat "%(work)s/journal/a1.json" || echo closed
cat "%(private)s/identity.json" || echo closed
echo y >>"$CLEARML_CONFIG_FILE" || echo closed
ls "%(work)s" || echo closed
"""


@pytest.fixture
def house() -> Iterator[Path]:
    """A directory that others may pass through, as /var/lib is: pytest's own are closed."""
    place = Path(tempfile.mkdtemp(prefix="fleet-house-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def a_runner(house: Path, monkeypatch: pytest.MonkeyPatch, guard: Guard) -> Runner:
    monkeypatch.setattr(runner_module, "check", lambda settings: None)
    monkeypatch.setattr(runner_module, "agent_python", lambda: "/bin/sh")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    for part in ("work", "private"):
        (house / part).mkdir(mode=0o700)
    user = task_user({VARIABLE: "nobody"})
    return Runner(AgentSettings(), ACCESS, house / "work" / "agents", guard, house / "private", user)


def test_a_task_of_another_user_has_its_own_and_can_neither_read_nor_change_what_is_the_supervisors(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard()
    runner = a_runner(house, monkeypatch, guard)
    for secret in (house / "work" / "journal" / "a1.json", house / "private" / "identity.json"):
        secret.parent.mkdir(exist_ok=True, mode=0o700)
        secret.touch(mode=0o600)
        secret.write_text("SECRET")
    runner.prepare()
    script = SCRIPT % {"work": house / "work", "private": house / "private"}
    monkeypatch.setattr(
        runner_module, "command", lambda task: ["/bin/sh", "-c", f"{script} setsid sleep 60 & sleep 60"]
    )
    adopt_orphans()
    agent = runner.start(ORDER)
    with os.fdopen(agent.output) as console:
        said = []
        while not said or "ls: " not in said[-1]:
            said.append(console.readline().strip())
        assert said[:4] == ["nobody nobody /nonexistent none", "agent conf", "AUTHORITY", "written"]
        assert "SECRET" not in " ".join(said)
        assert len([line for line in said if "denied" in line.lower()]) == 4
        assert (house / "work" / "agents" / "a1" / "tmp" / "mine").stat().st_uid == task_user({VARIABLE: "nobody"}).uid
        runner.bury(agent)
        wait_for(lambda: not is_alive(agent.pid), 5, "what is another user's ends with its allocation too")
    runner.clean("a1")
    assert not (house / "work" / "agents" / "a1").exists()
    guard.close()


def test_what_the_tasks_user_cannot_enter_or_run_is_told_before_a_task_comes(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "house").mkdir()
    runner = a_runner(tmp_path / "house", monkeypatch, Guard())
    with pytest.raises(
        AgentUnusable, match=r"^FLEET_TASK_USER nobody cannot reach .*/agents; put FLEET_DIR and FLEET_RUN_DIR"
    ):
        runner.prepare()
    runner = a_runner(house, monkeypatch, Guard())
    program = tmp_path / "python"
    program.symlink_to("/bin/sh")
    monkeypatch.setattr(runner_module, "agent_python", lambda: str(program))
    with pytest.raises(AgentUnusable, match=r"^FLEET_TASK_USER nobody cannot run .*/python; put clearml-agent where"):
        runner.prepare()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-such-user", "no such user on this machine; make it with useradd, in the image"),
        ("root", "root is no user for tasks; name one that owns nothing"),
    ],
)
def test_a_user_that_cannot_be_the_tasks_is_refused(name: str, words: str) -> None:
    with pytest.raises(AgentUnusable, match=f"^FLEET_TASK_USER {name}: {words}"):
        task_user({VARIABLE: name})


def test_without_a_name_tasks_are_processes_of_the_supervisors_own_user() -> None:
    assert task_user({}) is None
    assert task_user({VARIABLE: ""}) is None
