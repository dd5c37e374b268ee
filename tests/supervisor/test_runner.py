"""How an agent is started, what it may see, and that nothing of it is left."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from fleet.errors import AgentUnusable
from fleet.model import AgentSettings, Gpu, GpuNeed, ServerAccess, Task
from fleet.supervisor import runner as runner_module
from fleet.supervisor.agents import Order
from fleet.supervisor.processes import MARK, Guard, adopt_orphans, kill_marked, reap_orphans
from fleet.supervisor.runner import Runner, check, command, conf, environment
from tests.waiting import is_alive, wait_for

ACCESS = ServerAccess(
    api_url="http://api", files_url="http://files", web_url="http://web", access_key="A", secret_key="S3CRET"
)
GPUS = tuple(Gpu(index=i, uuid=f"GPU-{i}", model="A10", memory_gib=24) for i in (2, 3))


def an_order(*gpus: Gpu, mark: str = "a1", name: str = "mnist") -> Order:
    need = GpuNeed(at_least=len(gpus), at_most=len(gpus))
    task = Task(id="t1", queue="train", position=0, enqueued_at=datetime(2026, 1, 1, tzinfo=UTC), need=need, name=name)
    return Order(mark=mark, task=task, worker="lab:i1:gpu2,3", gpus=gpus)


def a_part(share: float) -> Order:
    order = an_order(GPUS[0])
    return replace(order, task=replace(order.task, need=GpuNeed(at_least=share, at_most=share)))


def env(order: Order, settings: AgentSettings | None = None, **ours: str) -> dict[str, str]:
    return environment(settings or AgentSettings(), ACCESS, order, Path("/dir/a1"), Path("/dir/clearml.conf"), ours)


def test_a_task_sees_its_gpus_by_uuid_and_nothing_else():
    seen = env(an_order(*GPUS), CUDA_VISIBLE_DEVICES="0,1,2,3", NVIDIA_VISIBLE_DEVICES="all")
    assert seen["CUDA_VISIBLE_DEVICES"] == seen["NVIDIA_VISIBLE_DEVICES"] == "GPU-2,GPU-3"
    assert seen["FLEET_GPU_INDICES"] == "2,3"


def test_a_cpu_task_sees_none():
    seen = env(an_order(), CUDA_VISIBLE_DEVICES="0")
    assert seen["CUDA_VISIBLE_DEVICES"] == seen["NVIDIA_VISIBLE_DEVICES"] == "none"
    assert seen["FLEET_GPU_INDICES"] == ""


def test_a_task_on_a_part_of_a_gpu_is_told_its_share_of_the_memory() -> None:
    seen = env(a_part(0.25), XLA_PYTHON_CLIENT_MEM_FRACTION=".9")
    assert seen["CUDA_VISIBLE_DEVICES"] == "GPU-2"
    assert (seen["FLEET_GPU_SHARE"], seen["FLEET_GPU_MEMORY_LIMIT_MIB"]) == ("0.25", "6144")
    assert (seen["XLA_PYTHON_CLIENT_MEM_FRACTION"], seen["TF_FORCE_GPU_ALLOW_GROWTH"]) == ("0.225", "true")
    assert seen["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=6144M"
    assert seen["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"


def test_a_task_of_whole_gpus_is_told_nothing_of_shares() -> None:
    assert [key for key in env(an_order(*GPUS)) if key.startswith(("FLEET_GPU_SHARE", "XLA_", "TF_", "CUDA_MPS"))] == []


def test_the_fleet_file_may_tell_frameworks_otherwise_but_not_what_the_share_is() -> None:
    ours = {"XLA_CLIENT_MEM_FRACTION": ".3", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "90", "FLEET_GPU_SHARE": "1"}
    seen = env(a_part(0.25), AgentSettings(environment=ours))
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in seen  # together they are an error
    assert (seen["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"], seen["FLEET_GPU_SHARE"]) == ("90", "0.25")


def test_credentials_are_in_the_environment_and_never_in_the_arguments():
    seen = env(an_order(*GPUS))
    assert (seen["CLEARML_API_ACCESS_KEY"], seen["CLEARML_API_SECRET_KEY"]) == ("A", "S3CRET")
    assert "S3CRET" not in " ".join(command("t1"))
    assert "S3CRET" not in conf(AgentSettings())


def test_what_speaks_for_another_identity_is_not_handed_down():
    ours = {
        "FLEET_CENTRE_URL": "x",
        "CLEARML_API_ACCESS_KEY": "mine",
        "TRAINS_API_HOST": "x",
        "PATH": "/bin",
        "LANG": "C",
    }
    seen = env(an_order(), **ours)
    assert (seen["PATH"], seen["LANG"], seen["CLEARML_API_ACCESS_KEY"]) == ("/bin", "C", "A")
    assert "FLEET_CENTRE_URL" not in seen
    assert "TRAINS_API_HOST" not in seen


def test_the_fleet_file_may_set_more_but_not_take_over():
    settings = AgentSettings(
        environment={"HF_HOME": "/cache", "CUDA_VISIBLE_DEVICES": "0", "CLEARML_WORKER_ID": "mine"}
    )
    seen = env(an_order(*GPUS), settings)
    assert seen["HF_HOME"] == "/cache"
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["CLEARML_WORKER_ID"]) == ("GPU-2,GPU-3", "lab:i1:gpu2,3")


def test_allocations_have_their_own_directories():
    seen = env(an_order())
    assert (seen["TMPDIR"], seen["CLEARML_AGENT__AGENT__VENVS_DIR"]) == ("/dir/a1/tmp", '"/dir/a1/venvs"')


def test_a_name_that_no_environment_can_hold_is_made_fit():
    assert env(an_order(name="a\0b\ud800"))["FLEET_TASK_NAME"] == "ab?"


def test_mode_interpreter_installs_nothing():
    own = env(an_order(), AgentSettings(mode="interpreter"))
    assert own["CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL"] == "1"
    assert "CLEARML_AGENT_SKIP_PIP_VENV_INSTALL" not in own
    given = env(an_order(), AgentSettings(mode="interpreter", python="/bin/sh"))
    assert given["CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL"] == "1"
    assert given["CLEARML_AGENT_SKIP_PIP_VENV_INSTALL"] == "/bin/sh"
    assert "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL" not in env(an_order(), AgentSettings(mode="venv"))


def test_the_agents_conf_holds_what_the_fleet_file_adds():
    text = conf(AgentSettings(extra_conf="sdk.development.store_code_diff_from_remote: true"))
    assert text.splitlines() == [
        "agent.disable_agent_update_check: true",
        "sdk.development.store_code_diff_from_remote: true",
    ]
    assert 'agent.python_binary: "/bin/sh"' in conf(AgentSettings(python="/bin/sh"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (AgentSettings(mode="conda"), "agent.mode 'conda' is unknown; use venv, interpreter or docker"),
        (AgentSettings(python="/no/python"), "agent.python /no/python is not on this machine; put it in the image"),
        (AgentSettings(version="1.0.0"), "agent.version 1.0.0 is wanted, this machine has"),
    ],
)
def test_settings_that_this_machine_cannot_serve_are_refused(settings: AgentSettings, words: str):
    pytest.importorskip("clearml_agent")
    with pytest.raises(AgentUnusable, match=f"^{words}"):
        check(settings)


# --- processes


@pytest.fixture
def guard():
    guard = Guard()
    yield guard
    guard.close()


@pytest.fixture
def runner(tmp_path, guard, monkeypatch):
    """A runner whose agents are shell scripts: start(script)."""
    monkeypatch.setattr(runner_module, "check", lambda settings: None)
    runner = Runner(AgentSettings(stop_grace=timedelta(seconds=1)), ACCESS, tmp_path / "work", guard)
    runner.prepare()
    adopt_orphans()

    def start(script: str, mark: str = "a1"):
        monkeypatch.setattr(runner_module, "command", lambda task: ["/bin/sh", "-c", script])
        return runner.start(an_order(*GPUS, mark=mark))

    runner.start_script = start
    return runner


def read_all(fd: int) -> str:
    with os.fdopen(fd) as file:
        return file.read()


def test_files_with_settings_are_for_their_owner_alone(runner, tmp_path):
    assert stat.S_IMODE((tmp_path / "work" / "clearml.conf").stat().st_mode) == 0o600
    agent = runner.start_script("echo $CLEARML_CONFIG_FILE; pwd; exit 7")
    assert read_all(agent.output).split() == [str(tmp_path / "work/clearml.conf"), str(tmp_path / "work/a1")]
    assert runner.bury(agent).exit_code == 7
    runner.clean("a1")
    assert not (tmp_path / "work" / "a1").exists()


def test_the_whole_group_ends_with_its_agent(runner):
    agent = runner.start_script("sleep 60 & echo $!; exec 1>&-; exec 2>&-; wait")
    sleeper = int(os.read(agent.output, 100))
    agent.ask_to_end()
    wait_for(lambda: agent.process.poll() is not None or not is_alive(agent.pid), 5)
    runner.bury(agent)
    wait_for(lambda: not is_alive(sleeper), 5)
    os.close(agent.output)


def test_what_left_the_group_is_found_by_its_mark(runner):
    agent = runner.start_script("setsid sleep 60 >/dev/null 2>&1 & echo $!", mark="a2")
    stranger = int(read_all(agent.output))
    assert runner.bury(agent).exit_code == 0
    wait_for(lambda: not is_alive(stranger), 5)
    assert kill_marked("a2") == 0
    reap_orphans(frozenset())
    assert not psutil.pid_exists(stranger)


def test_what_is_started_while_the_others_are_killed_is_killed_too(runner):
    starter = "import os, time\nwhile True:\n os.fork() or os.execlp('sleep', 'sleep', '60')\n time.sleep(0.005)"
    for times in range(3):
        mark = f"b{times}"
        agent = runner.start_script(f'setsid {sys.executable} -c "{starter}" >/dev/null 2>&1 & exit 0', mark=mark)
        read_all(agent.output)
        wait_for(lambda mark=mark: len(marked(mark)) > 20, 10)
        runner.bury(agent)
        wait_for(lambda mark=mark: marked(mark) == [], 5)


def marked(mark: str) -> list[int]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE and child.environ().get(MARK) == mark:
                found.append(child.pid)
    return found


def test_an_agent_that_cannot_be_started_leaves_nothing_open(runner, monkeypatch):
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(runner_module, "command", lambda task: ["/no/such/program"])
    with pytest.raises(FileNotFoundError):
        runner.start(an_order(*GPUS))
    assert os.listdir("/proc/self/fd") == before


PARENT = """
import os, subprocess, sys, time
from fleet.supervisor.processes import MARK, Guard, die_with_parent
guard = Guard()
child = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], start_new_session=True, preexec_fn=die_with_parent, stdout=subprocess.PIPE)
guard.add(child.pid)
sys.stdout.write(f"{child.pid} {guard.pid} {child.stdout.readline().decode()}")
sys.stdout.flush()
time.sleep(60)
"""


@pytest.mark.parametrize("dies_first", ["nobody", "guard"])
def test_when_we_are_killed_the_guard_or_the_kernel_ends_our_agents(dies_first: str):
    root = Path(runner_module.__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=root, text=True)
    child, guard, grandchild = map(int, parent.stdout.readline().split())
    if dies_first == "guard":
        os.kill(guard, signal.SIGKILL)
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_alive(child), 5)
    if dies_first == "nobody":  # the kernel reaches the agent only; the guard its whole group
        wait_for(lambda: not is_alive(grandchild) and not is_alive(guard), 5)
    elif is_alive(grandchild):
        os.kill(grandchild, signal.SIGKILL)
    parent.stdout.close()


def test_an_agent_that_ended_is_not_the_guard_s_business_any_more(runner, guard):
    agent = runner.start_script("exit 0")
    wait_for(lambda: not is_alive(agent.pid), 5)
    runner.bury(agent)
    os.close(agent.output)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        guard.add(other.pid)
        guard.remove(other.pid)
        guard.close()
        assert is_alive(other.pid)
        other.kill()
