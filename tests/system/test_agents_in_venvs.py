"""Agents in virtual environments, by the real clearml-agent: the environment that is kept, and who sees which secret."""

import ensurepip
import importlib.util
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from fleet.model import AgentSettings
from fleet.queues.base import TaskStatus
from fleet.supervisor.comeback import FILE
from tests.folders import holding
from tests.system.wheels import a_wheel
from tests.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("edge"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
]

# With its minor version: else the agent takes it for an old one, and installs Cython first.
PYTHON = f"python3.{sys.version_info.minor}"
SCRIPT = "import a_tiny_package, sys\nprint('uses', a_tiny_package.__file__)\nprint('prefix', sys.prefix)\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return a_wheel(tmp_path_factory.mktemp("wheel"))


def seconds_of(run) -> float:
    return (run.ended_at - run.started_at).total_seconds()


def test_a_second_task_with_the_same_requirements_finds_the_environment_of_the_first(machine, clearml, wheel, tmp_path):
    caches = tmp_path / "caches"
    conf = f"""
        agent.venvs_cache.path: "{caches}/venvs"
        agent.venvs_cache.free_space_threshold_gb: 0.1
        agent.vcs_cache.path: "{caches}/vcs"
        agent.pip_download_cache.path: "{caches}/downloads"
        agent.package_manager.pip_version: "=={ensurepip.version()}"
    """
    ours = {"PIP_CACHE_DIR": f"{caches}/pip"}
    here = machine(agent=AgentSettings(mode="venv", package_manager="pip", extra_conf=conf, environment=ours))
    consoles, times = [], []
    for _ in range(2):
        task = clearml.submit("train", SCRIPT, PYTHON, requirements=f"a_tiny_package @ file://{wheel}")
        assert clearml.ended(task, 90) == TaskStatus.COMPLETED, clearml.log(task)
        consoles.append(clearml.log(task))
        times.append(seconds_of(wait_for(lambda t=task: here.centre.runs.get(t), 20)[0]))
    first, second = consoles
    assert "::: Using Cached environment" not in first
    assert "::: Using Cached environment" in second
    places = [line.split()[1] for text in consoles for line in text.splitlines() if line.startswith("prefix ")]
    assert all(place.startswith(str(here.directory)) for place in places)
    assert len(set(places)) == 2  # each in a copy of its own
    print("seconds of the first and the second:", times)


SECRETS = {"git": "g1t-s3cret", "storage": "st0rage-s3cret", "init": "1nit-s3cret", "task": "envir0nment-s3cret"}


def test_secrets_of_the_fleet_file_reach_the_agents_and_nobody_else(machine, clearml, tmp_path):
    """While a task runs: arguments of all processes, logs, what the dispatcher was told, files that others can read."""
    gate = tmp_path / "gate"
    script = f"""
        cat $CLEARML_CONFIG_FILE | grep -c 'git_pass..*s3cret\\|aws.s3..*s3cret' | sed 's/^/lines of the conf: /'
        echo "length of mine: ${{#OUR_SECRET}}"; echo conf=$CLEARML_CONFIG_FILE
        until [ -e {gate} ]; do sleep 0.1; done
    """
    agent = AgentSettings(
        mode="interpreter",
        stop_grace=timedelta(seconds=1),
        init_script=f"curl_with={SECRETS['init']}; echo ${{#curl_with}} > {tmp_path}/init-ran",
        environment={"OUR_SECRET": SECRETS["task"]},
        extra_conf=f'agent.git_user: "git"\nagent.git_pass: "{SECRETS["git"]}"\n'
        f'sdk.aws.s3: {{"key": "k", "secret": "{SECRETS["storage"]}"}}',
    )
    task = clearml.submit("train", script)
    here = machine(agent=agent, token="t0ken-of-this-machine")
    console = wait_for(lambda: "conf=" in (text := clearml.log(task)) and text, 30)
    secrets = [*SECRETS.values(), here.centre.enrolled.server.secret_key, here.centre.enrolled.token]
    assert "lines of the conf: 2" in console
    assert f"length of mine: {len(SECRETS['task'])}" in console
    assert (tmp_path / "init-ran").read_text() == f"{len(SECRETS['init'])}\n"

    processes = list(psutil.process_iter(["pid", "cmdline"]))
    told = [p.info["pid"] for p in processes if any(s in " ".join(p.info["cmdline"] or ()) for s in secrets)]
    assert [pid for pid in told if pid != os.getpid()] == []
    others = psutil.Process(here.process.pid).children(recursive=True)
    assert [process for process in others if knows(process, secrets)] == []
    assert not any(secret in here.log.read_text() for secret in secrets)
    assert not any(secret in console for secret in secrets)
    assert not any(secret in repr(beat) for beat in here.centre.heartbeats for secret in secrets)
    (conf,) = [Path(line[5:]) for line in console.splitlines() if line.startswith("conf=")]
    assert not conf.is_relative_to(here.directory)  # in memory, not on the disk
    kept = holding(here.directory, *secrets)
    assert kept == [here.directory / FILE]  # its own token, for the case that its power is cut (ADR 44)
    other = [*SECRETS.values(), here.centre.enrolled.server.secret_key]
    assert not any(secret in kept[0].read_text() for secret in other)
    assert kept[0].stat().st_mode & 0o777 == 0o600
    stranger = f"cat {conf} || find {here.directory} -type f -readable"
    if os.geteuid() == 0:
        found = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", stranger], capture_output=True, check=False
        )
        assert found.stdout == b""
    gate.touch()
    assert clearml.ended(task) == TaskStatus.COMPLETED
    here.stop()
    assert not conf.exists()


def knows(process: psutil.Process, secrets: list[str]) -> bool:
    """It is of no task, and a secret is in its environment."""
    try:
        environ = process.environ()
    except psutil.Error:
        return False
    return "FLEET_ALLOCATION" not in environ and any(s in value for value in environ.values() for s in secrets)


def test_a_failed_init_script_ends_the_machine_and_says_why(machine):
    here = machine(agent=AgentSettings(mode="interpreter", init_script="echo no driver yet; exit 5"))
    assert here.process.wait(20 * PATIENCE) == 0
    assert here.centre.goodbye.reason.code == "hook_failed"
    assert here.centre.goodbye.reason.text == "hook agent.init_script failed at startup: exit code 5: no driver yet"
