"""Hooks: in order, with their facts, within their time; and the table in the README says what the code does."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent_hooks import hooks as hooks_module
from agent_hooks.entry_points import Installed, installed
from agent_hooks.hooks import MOMENTS, Hooks, Moment, OnFailure, Rule
from tests.waiting import is_alive, wait_for

README = Path(hooks_module.__file__).with_name("README.md")


@pytest.fixture
def hook(tmp_path):
    """Write a hook: hook("pre-task", "10-name", "echo hello")."""

    def write(moment: str, name: str, script: str, mode: int = 0o755) -> Path:
        path = tmp_path / moment / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)
        return path

    return write


def test_hooks_run_in_the_order_of_their_names_with_their_facts(hook, tmp_path):
    for name in ("20-b", "10-a", "3-c"):
        hook(
            "pre-task",
            name,
            f'echo {name} "$FLEET_CLUSTER $FLEET_TASK_ID $FLEET_MOMENT $FLEET_DEADLINE_S" >> {tmp_path}/out',
        )
    hooks = Hooks(tmp_path, {"FLEET_CLUSTER": "lab"})
    assert hooks.run(Moment.PRE_TASK, {"FLEET_TASK_ID": "t1"}) is None
    assert (tmp_path / "out").read_text() == "".join(f"{n} lab t1 pre-task 120\n" for n in ("10-a", "20-b", "3-c"))


def test_a_moment_without_a_directory_or_without_executables_does_nothing(hook, tmp_path):
    hook("drain", "README", "exit 1", mode=0o644)
    assert Hooks(tmp_path).of(Moment.DRAIN) == ()
    assert Hooks(tmp_path).run(Moment.DRAIN) is None
    assert Hooks(tmp_path / "missing").run(Moment.STARTUP) is None
    assert Hooks(None).run(Moment.STARTUP) is None


def test_a_directory_that_cannot_be_looked_into_fails_its_moment_and_no_other(hook, tmp_path):
    (tmp_path / "pre-task").symlink_to("pre-task")  # in a circle
    failure = Hooks(tmp_path).run(Moment.PRE_TASK)
    assert failure.hook == str(tmp_path / "pre-task")
    assert "cannot be run: Too many levels of symbolic links" in failure.text
    hook("post-task", "one", "exit 0")
    assert Hooks(tmp_path).run(Moment.POST_TASK) is None


def test_a_hook_is_run_also_where_the_disk_takes_nothing(hook, tmp_path, monkeypatch):
    """It may be the one that makes room."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    hook("post-task", "prune", f"touch {tmp_path}/done; echo last words; exit 3")
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert Hooks(tmp_path).run(Moment.POST_TASK).text == "exit code 3: last words"
    assert (tmp_path / "done").exists()
    monkeypatch.setattr(os, "memfd_create", full)
    assert Hooks(tmp_path).run(Moment.POST_TASK).text == "cannot be run: No space left on device"


def test_the_first_failure_ends_the_moment_and_keeps_its_last_words(hook, tmp_path):
    failing = hook("startup", "10-fails", "echo no disk; exit 3")
    hook("startup", "20-never", f"touch {tmp_path}/ran")
    failure = Hooks(tmp_path).run(Moment.STARTUP)
    assert (failure.hook, failure.text) == (str(failing), "exit code 3: no disk")
    assert not (tmp_path / "ran").exists()


def test_a_hook_that_takes_too_long_is_killed_with_all_it_started(hook, tmp_path, monkeypatch):
    monkeypatch.setitem(MOMENTS, Moment.DRAIN, Rule(time_limit_s=1, on_failure=OnFailure.LOG))
    hook("drain", "10-slow", f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    failure = Hooks(tmp_path).run(Moment.DRAIN)
    assert failure.text == "was ended after its time limit of 1 s"
    wait_for(lambda: not is_alive(int((tmp_path / "pid").read_text())), 5)


def test_a_hook_may_leave_a_daemon_behind(hook, tmp_path):
    hook("startup", "10-daemon", f"sleep 60 & echo $! > {tmp_path}/pid")
    assert Hooks(tmp_path).run(Moment.STARTUP) is None
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_hook_that_cannot_be_run_says_so(tmp_path):
    path = tmp_path / "startup" / "10-broken"
    path.parent.mkdir()
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    assert "cannot be run" in Hooks(tmp_path).run(Moment.STARTUP).text


# --- entry points

OUR_HOOKS = """
import json, os, sys, time
def note(facts):
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps({"facts": facts, "pid": os.getpid(), "here": os.getcwd()}) + "\\n")
def refuse(facts):
    raise ValueError("no licence for " + facts["FLEET_TASK_ID"])
def hang(facts):
    time.sleep(600)
def leave(facts):
    sys.exit(4)
"""


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Install a package with hooks for this test: packaged({"pre-task": "note"})."""

    def install(points: dict[str, str]) -> tuple[Installed, ...]:
        site = tmp_path / "site"
        (site / "our_hooks-1.0.dist-info").mkdir(parents=True)
        (site / "our_hooks.py").write_text(OUR_HOOKS)
        (site / "our_hooks-1.0.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: our-hooks\nVersion: 1\n"
        )
        lines = "".join(f"{name} = our_hooks:{function}\n" for name, function in points.items())
        (site / "our_hooks-1.0.dist-info" / "entry_points.txt").write_text(f"[fleet.hooks]\n{lines}")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", str(site))
        monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
        return tuple(hook for hook in installed() if hook.package == "our-hooks")

    return install


def test_entry_points_of_installed_packages_run_after_the_executables_with_the_facts(hook, packaged, tmp_path):
    packaged({"pre-task.second": "note", "pre-task": "note", "post-task": "refuse"})
    hook("pre-task", "10-first", f"echo executable >> {tmp_path}/notes")
    hooks = Hooks(tmp_path, {"FLEET_CLUSTER": "lab"})
    assert hooks.run(Moment.PRE_TASK, {"FLEET_TASK_ID": "t1"}) is None
    first, *others = (tmp_path / "notes").read_text().splitlines()
    assert first == "executable"
    told = [json.loads(line) for line in others]
    facts = {"FLEET_CLUSTER": "lab", "FLEET_TASK_ID": "t1", "FLEET_MOMENT": "pre-task", "FLEET_DEADLINE_S": "120"}
    assert [each["facts"] for each in told] == [facts, facts]
    assert len({os.getpid(), *(each["pid"] for each in told)}) == 3  # each in a process of its own


def test_entry_points_run_by_name_then_by_package(monkeypatch):
    points = [("startup.b", "x"), ("startup", "z"), ("startup", "y"), ("drain", "a")]
    packaged = [Installed(name=name, function="m:f", package=package) for name, package in sorted(points)]
    found = [hook.name for hook in Hooks(None, packaged=packaged).of(Moment.STARTUP)]
    assert found == ["m:f (y)", "m:f (z)", "m:f (x)"]


def test_an_entry_point_that_raises_has_failed_with_its_exception_as_its_last_words(packaged):
    found = packaged({"pre-task": "refuse"})
    failure = Hooks(None, packaged=found).run(Moment.PRE_TASK, {"FLEET_TASK_ID": "t1"})
    assert failure.hook == "our_hooks:refuse (our-hooks)"
    assert failure.text.startswith("exit code 1: Traceback")
    assert failure.text.endswith("ValueError: no licence for t1")


def test_an_entry_point_may_exit_and_one_that_is_not_there_fails(packaged):
    found = packaged({"drain": "leave", "shutdown": "missing"})
    assert Hooks(None, packaged=found).run(Moment.DRAIN).text == "exit code 4"
    assert "has no attribute 'missing'" in Hooks(None, packaged=found).run(Moment.SHUTDOWN).text


def test_an_entry_point_that_hangs_is_killed_at_its_time_limit(packaged, monkeypatch):
    monkeypatch.setitem(MOMENTS, Moment.DRAIN, Rule(time_limit_s=1, on_failure=OnFailure.LOG))
    failure = Hooks(None, packaged=packaged({"drain": "hang"})).run(Moment.DRAIN)
    assert failure.text == "was ended after its time limit of 1 s"


def test_an_entry_point_is_not_mistaken_for_a_module_in_the_working_directory(packaged, tmp_path, monkeypatch):
    found = packaged({"drain": "note"})
    (tmp_path / "our_hooks.py").write_text("raise SystemExit('the wrong one')\n")
    monkeypatch.chdir(tmp_path)
    assert Hooks(None, packaged=found).run(Moment.DRAIN) is None


def test_looking_entry_points_up_loads_none_of_their_code(packaged, tmp_path):
    packaged({"startup": "note"})
    look = "import sys; from agent_hooks.entry_points import installed; print(len(installed()), 'our_hooks' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{README.parents[1]}:{os.environ['PYTHONPATH']}"}
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]


def test_hooks_do_not_see_credentials_or_the_machine_s_own_settings(hook, tmp_path, monkeypatch):
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "secret")
    monkeypatch.setenv("FLEET_DIR", "/somewhere")
    hook("startup", "10-env", f"env > {tmp_path}/env")
    Hooks(tmp_path).run(Moment.STARTUP)
    assert re.findall("(CLEARML_\\w+|FLEET_DIR)=", (tmp_path / "env").read_text()) == []


def test_the_table_in_the_readme_says_what_the_code_does():
    rows = [line.split("|") for line in README.read_text().splitlines() if line.startswith("| `")]
    table = {row[1].strip(" `"): (row[4].strip(), row[5].strip()) for row in rows}
    assert table == {moment: (f"{rule.time_limit_s} s", str(rule.on_failure)) for moment, rule in MOMENTS.items()}


READS_ITS_OWN = {  # files whose FLEET_* names are settings, not facts; one a line
    "__main__.py",
    "agent_home.py",
    "gce.py",
    "idle.py",
    "notices.py",
    "private.py",
    "task_user.py",
    "processes.py",
    "signs.py",
    "start.py",
    "vigil.py",
}


def test_every_fact_that_a_hook_is_given_is_in_the_readme():
    given, settings = {"FLEET_CLUSTER", "FLEET_RESOURCE", "FLEET_INSTANCE"}, set()  # from start.py
    for path in [*README.parent.glob("*.py"), *README.parents[1].glob("fleet/supervisor/*.py")]:
        found = set(re.findall(r'"(FLEET_[A-Z_]+)"', path.read_text()))
        (settings if path.name in READS_ITS_OWN else given).update(found - {"FLEET_"})
    named = set(re.findall(r"`(FLEET_[A-Z_]+)", README.read_text())) - {"FLEET_"}
    assert given - named == set()
    assert named - given <= settings  # it may tell of a setting too, if there is one of that name
