"""Tasks as another user than their supervisor, by the real clearml-agent: what they are shown, what stays closed, and that they end."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.model import AgentSettings
from fleet.queues.base import TaskStatus
from tests.system.edge import Machine, Person, Server
from tests.waiting import PATIENCE, wait_for

AGENT = importlib.util.find_spec("clearml_agent")
PACKAGES = Path(AGENT.origin).parents[1] if AGENT and AGENT.origin else Path("/nowhere")
SYSTEM_PYTHON = Path(f"/usr/bin/python3.{sys.version_info.minor}")
NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []}


def may_nobody_use(path: Path) -> bool:
    return (
        os.geteuid() == 0
        and subprocess.run(["/usr/bin/test", "-r", path], cwd="/", check=False, **NOBODY).returncode == 0
    )


pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("edge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may run tasks as another user"),
    pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason=f"no {SYSTEM_PYTHON}, which every user may run"),
    pytest.mark.skipif(not may_nobody_use(PACKAGES), reason=f"nobody may read {PACKAGES}, where clearml-agent is"),
]

# As a curious task does it: all that its supervisor has on this machine.
SCRIPT = """
echo "i am $(id -un), home $HOME"
for each in "{box}/comeback.json" "{box}/journal/"* "{run}/"*/identity.json "/proc/{supervisor}/environ"; do
  if cat "$each" 2>/dev/null | grep -q .; then echo "open: $each"; else echo "closed: $each"; fi
done
head -c 5 "$CLEARML_CONFIG_FILE" && echo " is read"
sleep 300 & setsid sleep 300 &
touch "{home}/runs"; {then}
"""


@pytest.fixture
def house() -> Iterator[Path]:
    """A place that others may pass through, as /var/lib is (pytest's own are closed), with an agent that everybody may run."""
    place = Path(tempfile.mkdtemp(prefix="fleet-house-"))
    place.chmod(0o755)
    (place / "home").mkdir()
    shutil.chown(place / "home", "nobody", "nogroup")
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", place / "agent"], check=True)
    (here,) = (place / "agent" / "lib").glob("python3*/site-packages")
    (here / "of_the_tests.pth").write_text(f"{PACKAGES}\n")
    (here / "clearml_agent").symlink_to(PACKAGES / "clearml_agent")
    yield place
    shutil.rmtree(place)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="fleet-run-", dir="/dev/shm"))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def test_a_task_of_another_user_runs_is_stopped_and_reads_nothing_of_its_supervisor(
    house: Path, in_memory: Path, server: Server, clearml: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, box = house / "home", house / "box"
    monkeypatch.setenv("FLEET_TASK_USER", "nobody")
    monkeypatch.setenv("FLEET_RUN_DIR", str(in_memory))
    monkeypatch.setenv("FLEET_AGENT_PYTHON", str(house / "agent" / "bin" / "python"))
    settings = AgentSettings(mode="interpreter", stop_grace=timedelta(seconds=1), environment={"HOME": str(home)})
    here = Machine(box, server.access, '{"count": 1}', None, agent=settings)
    try:
        where = {"box": box, "run": in_memory, "supervisor": here.process.pid, "home": home}
        task = clearml.submit("train", SCRIPT.format(**where, then="exit 0"))
        assert clearml.ended(task, 90) is TaskStatus.COMPLETED, clearml.log(task)
        said = clearml.log(task)
        assert f"i am nobody, home {home}" in said
        assert "agent is read" in said, "its own clearml.conf"
        assert said.count("closed: ") == 4, said
        assert "open: " not in said
        assert (home / "runs").owner() == "nobody"
        wait_for(lambda: not here.agents(), 10, "also what it left behind ends with it")

        (home / "runs").unlink()
        task = clearml.submit("train", SCRIPT.format(**where, then="wait"))
        wait_for((home / "runs").exists, 60, "the second one runs")
        clearml.abort(task)
        assert clearml.ended(task) is TaskStatus.STOPPED
        wait_for(lambda: not here.agents(), 10, "root may end what is another user's")
        wait_for(lambda: list((box / "agents").glob("a*")) == [], 10, "and delete what it wrote")
    finally:
        here.stop()
        sys.stdout.write(here.log.read_text())


def test_a_machine_that_cannot_run_tasks_as_that_user_says_so_before_it_takes_one(
    house: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "FLEET_TASK_USER": "nobody",
        "FLEET_DIR": str(house / "closed" / "box"),
        "FLEET_AGENT_PYTHON": str(house / "agent" / "bin" / "python"),
        "FLEET_SIM_GPUS": '{"count": 1}',
        "HERE": server.access.secret_key,
    }.items():
        monkeypatch.setenv(name, value)
    (house / "closed").mkdir(mode=0o700)
    file = house / "machine.toml"
    access = server.access
    file.write_text(
        f'cluster = "closed{os.getpid()}"\n[server]\nurl = "{access.api_url}"\naccess_key = "{access.access_key}"\n'
        'secret_key = "${HERE}"\n[agent]\nmode = "interpreter"\n[queues.train]\n'
    )
    command = [sys.executable, "-m", "fleet", "supervise", "--standalone", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("fleet supervise: FLEET_TASK_USER nobody cannot reach "), done.stderr
    assert "Traceback" not in done.stderr
