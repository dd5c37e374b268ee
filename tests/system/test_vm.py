"""Whole machines: the dispatcher launches them through a provider of its own, cloud-init starts our units on them, and
whatever becomes of the supervisor, they end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.config.resources import installed
from fleet.model import InstanceState
from tests.ports import a_free_port
from tests.system.box import provider
from tests.system.box.cloud import Cloud, Rented
from tests.system.box.ground import Ground, hierarchies
from tests.system.box.image import UNITS, Unavailable
from tests.system.box.machine import REBOOTS
from tests.system.box.network import GATEWAY
from tests.system.ring import ROOT, Ring
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("vm")]

FLEET_FILE = """\
cluster: ring
state_dir: {state}
listen: {host}:PORT
store: {memory}
poll_interval: 1s
agent: AGENT
resources:
  gpu: {{provider: box, gpus: {gpus}, max_instances: {max_instances}, idle_timeout: {idle}, files: FILES, commands: COMMANDS, first_boot: FIRST_BOOT}}
queues:
  train: {{resources: [gpu], gpus: 1}}
"""
UNIT = "/etc/systemd/system/fleet-{}.d/test.conf"
SUPERVISE, WATCH = UNIT.format("supervise.service"), UNIT.format("watch.service")
WATCH_TIMER, LIFETIME_TIMER = UNIT.format("watch.timer"), UNIT.format("lifetime.timer")
RESTARTS_AT_ONCE = {SUPERVISE: "[Service]\nRestartSec=100ms\n"}
WATCHDOG_IN_SECONDS = {SUPERVISE: "[Service]\nRestartSec=100ms\nWatchdogSec=4\nTimeoutAbortSec=1\n"}
WATCH_ALONE = {
    SUPERVISE: "[Service]\nWatchdogSec=0\n",
    WATCH: "[Service]\nEnvironment=FLEET_SILENT_S=4\n",
    WATCH_TIMER: "[Timer]\nOnBootSec=\nOnBootSec=2s\nOnUnitInactiveSec=1s\nAccuracySec=100ms\n",
}
# The service as it is shipped, without its minute of patience.
LIFETIME_ALONE = {
    SUPERVISE: "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=1s\n",
    LIFETIME_TIMER: "[Timer]\nOnBootSec=\nOnBootSec=20s\nAccuracySec=100ms\n",
    "/etc/systemd/system/fleet-lifetime.service": (UNITS / "fleet-lifetime.service")
    .read_text()
    .replace("sleep 60", "sleep 1"),
}

IN_CONTAINERS = {
    "mode": "docker",
    "image": "box:latest",
    "docker": {
        "arguments": "-v /usr/bin:/usr/bin:ro -v /usr/lib:/usr/lib:ro -v /usr/lib64:/usr/lib64:ro -v /opt/fleet:/opt/fleet:ro"
    },
    "environment": {"CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1"},
}
MAKE_CONTAINER_IMAGE = ("systemctl start docker.service", "sh /opt/box-container-image")


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    try:
        ground = Ground()
    except Unavailable as why:
        pytest.skip(str(why))
    try:
        cloud = Cloud(ground)
        yield cloud
        cloud.close()
    finally:
        ground.close()


MakeFleet = Callable[..., Ring]


@pytest.fixture
def make_fleet(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeFleet]:
    """A dispatcher in the cloud's network, and so is the test itself."""
    plugins = tmp_path / "plugins"
    provider.install(plugins)
    monkeypatch.syspath_prepend(str(plugins))
    installed.cache_clear()
    made: list[Ring] = []

    def make(
        files: Mapping[str, str] | None = None,
        agent: Mapping[str, object] | None = None,
        commands: Sequence[str] = (),
        first_boot: str = "",
        **settings: object,
    ) -> Ring:
        given = {"FILES": dict(files or {}), "AGENT": agent or {"mode": "interpreter"}, "COMMANDS": list(commands)}
        given["FIRST_BOOT"] = first_boot
        text = FLEET_FILE.replace("PORT", str(a_free_port()))
        for name, value in given.items():  # it is a format: their braces are none of its
            text = text.replace(name, json.dumps(value).replace("{", "{{").replace("}", "}}"))
        ring = Ring(tmp_path, gpus=1, host=GATEWAY, file=text, **settings)  # type: ignore[arg-type]
        ring.environment |= {"PYTHONPATH": f"{ROOT}:{plugins}", provider.URL: cloud.url}
        made.append(ring)
        return ring.start()

    with cloud.ground.network.entered():
        yield make
        for ring in made:
            print((tmp_path / "dispatch.log").read_text()[-4000:])  # shown by pytest when the test fails
            ring.close()
        for each in cloud.rented.values():
            if each.vm.is_running:
                print(each.vm.console[-8000:])
        cloud.end_all()
        installed.cache_clear()


def rented(cloud: Cloud, ring: Ring, instance: str | None = None) -> Rented:
    """The machine of this instance, or the only one of this fleet."""
    if instance is None:
        (only,) = wait_for(ring.instances, what="an instance")
        instance = only.id
    return wait_for(lambda: cloud.rented.get(instance), what="its machine")


def ready(cloud: Cloud, ring: Ring) -> Rented:
    """The only machine of this fleet, once its supervisor works."""
    wait_for(lambda: ring.instances() and ring.instances()[0].heartbeat_at, 60, what="the supervisor enrols")
    return rented(cloud, ring)


def ends(machine: Rented, ring: Ring, within_s: float = 60, ledger: bool = True) -> None:
    """The machine powered itself off, nobody else ended it, and the ledger is closed."""
    assert wait_for(lambda: machine.vm.process.poll() is not None, within_s, what="the machine ends")
    assert machine.vm.process.returncode == 0, machine.vm.console[-3000:]
    assert machine.terminated_at is None
    if ledger:
        wait_for(lambda: {i.state for i in ring.instances()} == {InstanceState.GONE}, 20, what="the ledger closes")


def end_all(cloud: Cloud, ring: Ring) -> None:
    """Every machine of this fleet powers itself off."""
    machines = [rented(cloud, ring, i.id) for i in ring.instances()]
    for machine in machines:
        ends(machine, ring, ledger=machine is machines[-1])


def supervisor(machine: Rented) -> str:
    """Its pid inside."""
    show = ("systemctl", "show", "--property=MainPID", "--value", "fleet-supervise.service")
    return wait_for(lambda: (pid := machine.vm.run(*show).strip()) != "0" and pid, what="a supervisor runs") or ""


def test_a_machine_boots_enrols_runs_a_task_and_powers_itself_off_when_idle(
    cloud: Cloud, make_fleet: MakeFleet
) -> None:
    ring = make_fleet(idle="2s")
    task = ring.bash(
        'echo "I see $CUDA_VISIBLE_DEVICES on $(hostname) as $(id -un), up $(cut -d. -f1 /proc/uptime)s"; systemd-detect-virt'
    )
    assert ring.ends(task) == ["completed"]
    machine = rented(cloud, ring)
    (run,) = ring.runs(task)
    said = ring.console(task)
    assert re.search(rf"I see {run.gpus[0]} on {machine.vm.name} as fleet, up \d{{1,2}}s\s+systemd-nspawn", said), said
    assert "user-data" in machine.metadata.asked
    ends(machine, ring)
    (instance,) = ring.instances()
    assert instance.end_reason
    assert instance.end_reason.code == "idle"


AS_ITS_OWN_USER = {
    "/etc/systemd/system/fleet-supervise.service.d/task-user.conf": "[Service]\nUser=root\nGroup=root\nEnvironment=FLEET_TASK_USER=fleet-task\n"
}
MAKE_TASK_USER = ("useradd --system --create-home --home-dir /var/lib/fleet-task --shell /usr/sbin/nologin fleet-task",)


def test_tasks_run_as_a_user_of_their_own_who_reads_nothing_of_the_supervisor(
    cloud: Cloud, make_fleet: MakeFleet
) -> None:
    """As docs/security.md has it."""
    ring = make_fleet(files=AS_ITS_OWN_USER, commands=MAKE_TASK_USER, idle="2s")
    task = ring.bash(
        'echo "as $(id -un) in $HOME"; head -c 5 "$CLEARML_CONFIG_FILE"; echo; cd /; '
        "for each in /var/lib/fleet /run/fleet/* /etc/fleet/supervise.env; do test -r $each && echo open $each || echo closed $each; done; "
        "find /run/fleet /var/lib/fleet -name '*.json' 2>/dev/null | sed 's/^/found /'"
    )
    assert ring.ends(task) == ["completed"]
    said = ring.console(task)
    assert "as fleet-task in /var/lib/fleet-task" in said
    assert "agent" in said.split("as fleet-task")[1], "its clearml.conf"
    assert "closed /var/lib/fleet\n" in said
    assert "closed /etc/fleet/supervise.env" in said
    assert "found" not in said
    ends(rented(cloud, ring), ring)


def test_a_baked_image_needs_no_more_than_fleets_own_user_data(cloud: Cloud, make_fleet: MakeFleet) -> None:
    ring = make_fleet(first_boot="baked", idle="2s")
    task = ring.bash("echo done; systemctl is-enabled fleet-supervise.service")
    assert ring.ends(task) == ["completed"]
    assert "enabled" in ring.console(task)
    machine = rented(cloud, ring)
    assert "no package" not in machine.vm.console
    ends(machine, ring)


def test_a_stock_image_that_cannot_be_provisioned_says_why_and_powers_itself_off(
    cloud: Cloud, make_fleet: MakeFleet
) -> None:
    ring = make_fleet(first_boot="stock", idle="2s")
    ring.bash("true")
    machine = rented(cloud, ring)
    ends(machine, ring, ledger=False)
    assert "fleet provision: 10-base failed" in machine.vm.console  # it has got the package, but reaches no archive


def test_a_machine_that_its_cloud_takes_back_hands_its_task_on_and_powers_itself_off(
    cloud: Cloud, make_fleet: MakeFleet
) -> None:
    ring = make_fleet(idle="2s", max_instances=2)
    task = ring.bash(
        'trap "echo saved; exit 1" TERM; echo on $(hostname); until [ -e /var/tmp/go ]; do sleep 0.2; done; echo all of it'
    )
    first = ready(cloud, ring)
    wait_for(lambda: f"on {first.vm.name}" in ring.console(task), 30, what="it runs")
    first.metadata.interrupt(datetime.now(UTC) + timedelta(seconds=30))
    ends(first, ring, 40, ledger=False)
    (other,) = wait_for(lambda: [i for i in ring.instances() if i.cloud_id != first.vm.name], 30, what="a replacement")
    second = rented(cloud, ring, other.id)
    wait_for(lambda: f"on {second.vm.name}" in ring.console(task), 60, what="it runs again")
    second.vm.run("touch", "/var/tmp/go")
    assert ring.ends(task) == ["completed"]
    said = ring.console(task)
    assert said.index("saved") < said.index(f"on {second.vm.name}") < said.index("all of it")
    end_all(cloud, ring)


def test_a_supervisor_that_is_killed_loses_no_task_and_its_machine_ends(cloud: Cloud, make_fleet: MakeFleet) -> None:
    ring = make_fleet(RESTARTS_AT_ONCE, idle="2s")
    task = ring.bash("sleep 5; echo all of it")
    machine = ready(cloud, ring)
    wait_for(lambda: ring.runs(task), 30, what="it runs")
    machine.vm.run("kill", "-KILL", supervisor(machine))
    assert ring.ends(task) == ["completed"]
    assert ring.console(task).count("all of it") == 1
    end_all(cloud, ring)


def test_a_supervisor_that_is_stopped_is_ended_by_the_watchdog_and_its_machine_ends(
    cloud: Cloud, make_fleet: MakeFleet
) -> None:
    ring = make_fleet(WATCHDOG_IN_SECONDS, idle="10s")
    ring.bash("true")
    machine = ready(cloud, ring)
    machine.vm.run("kill", "-STOP", supervisor(machine))
    ends(machine, ring)
    assert "fleet-supervise.service: Watchdog timeout" in machine.vm.console


def test_where_the_watchdog_fails_the_watch_ends_a_machine_without_a_sign_of_life(
    cloud: Cloud, make_fleet: MakeFleet
) -> None:
    ring = make_fleet(WATCH_ALONE, idle="10m")
    ring.bash("true")
    machine = ready(cloud, ring)
    machine.vm.run("kill", "-STOP", supervisor(machine))
    ends(machine, ring)
    assert "Starting fleet-watch.service" in machine.vm.console


def test_a_machine_whose_python_is_gone_ends_at_its_longest_life(cloud: Cloud, make_fleet: MakeFleet) -> None:
    ring = make_fleet(LIFETIME_ALONE, idle="10m")
    ring.bash("true")
    machine = ready(cloud, ring)
    machine.vm.run("rm", "-r", "/opt/fleet")
    machine.vm.run("kill", "-KILL", supervisor(machine))
    ends(machine, ring)
    assert "fleet-lifetime.service" in machine.vm.console


def test_a_task_runs_in_a_container_on_a_machine_whose_engine_is_its_own(cloud: Cloud, make_fleet: MakeFleet) -> None:
    ring = make_fleet(agent=IN_CONTAINERS, commands=MAKE_CONTAINER_IMAGE, idle="2s")
    task = ring.bash('echo "I see $CUDA_VISIBLE_DEVICES"; ls -d /.dockerenv')
    assert ring.ends(task) == ["completed"], ring.console(task)[-2000:]
    machine = rented(cloud, ring)
    (run,) = ring.runs(task)
    said = ring.console(task)
    assert f"I see {run.gpus[0]}" in said
    assert "/.dockerenv" in said
    ends(machine, ring)


def test_a_machine_that_loses_its_power_for_a_moment_comes_back_as_itself_and_runs_its_task_again(
    cloud: Cloud, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "keeps_disks", True)
    # Longer than the server keeps back a task that a worker may still have (ADR 8).
    ring = make_fleet(first_boot="baked", idle="60s")
    task = ring.bash("echo it runs; [ ! -e /var/tmp/lost ] || exit 0; sleep 600")
    machine = ready(cloud, ring)
    wait_for(lambda: "it runs" in ring.console(task), 30, what="it runs")
    machine.vm.run("sh", "-c", "touch /var/tmp/lost; sync; systemctl reboot -ff", check=False)
    assert machine.vm.process.wait(20 * PATIENCE) == REBOOTS
    machine.vm.boot()
    assert ring.ends(task) == ["completed"]
    assert ring.console(task).count("it runs") == 2
    (instance,) = ring.instances()  # no other was needed
    assert (instance.cloud_id, instance.state) == (machine.vm.name, InstanceState.READY)


KILLED = """
import os, signal, sys
from tests.system.box.cloud import Cloud
from tests.system.box.ground import Ground, hierarchies
from tests.system.box.image import Unavailable
try:
    ground = Ground()
except Unavailable:
    sys.exit(3)
Cloud(ground).launch("token", {}, "#cloud-config")
print(ground.place, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_of_a_box_whose_maker_is_killed_nothing_is_left(cloud: Cloud) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True) as maker:
        place, _ = maker.communicate(timeout=60 * PATIENCE)
    assert maker.returncode == -signal.SIGKILL
    name = f"fleetbox-{maker.pid}"

    def left() -> list[object]:
        groups = [group / name for group in hierarchies()]
        paths = [Path(place.strip()), Path("/run/netns") / name, *groups]
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if place.strip() in line]
        return [*(path for path in paths if path.exists()), *mounts]

    wait_for(lambda: not left(), 30, f"nothing is left: {left()}")
