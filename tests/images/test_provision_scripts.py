"""The provision scripts: shellcheck finds nothing, and what they decide where no GPU, or no network, is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fleet.assemble.baking import versions
from fleet.assemble.package import IMAGES
from tests.waiting import PATIENCE

PROVISION = IMAGES / "provision"
SCRIPTS = [*sorted(PROVISION.glob("*.sh")), PROVISION / "files/fleet-wait-gpus", PROVISION / "files/fleet-metadata"]
OS_RELEASE = {"ubuntu": "ID=ubuntu\n", "debian": "ID=debian\n"}


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here (apt-get install shellcheck)")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(
        ["shellcheck", "-x", "-P", "SCRIPTDIR", *map(str, SCRIPTS)],
        capture_output=True,
        text=True,
        timeout=120 * PATIENCE,
        check=False,
    )
    assert done.stdout == ""


class Machine:
    """A stock machine whose programs only note what they are asked."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.programs = place / "bin"
        self.programs.mkdir()
        self.asked = place / "asked"
        self.asked.touch()
        for name in ("apt-get", "nvidia-ctk", "modprobe", "curl", "dpkg-query"):
            self.has(name, f'echo "{name} $*" >>{self.asked}')
        self.has("dpkg-query", "exit 1")
        self.has("dpkg", "echo amd64")

    def has(self, name: str, script: str) -> None:
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / name).chmod(0o755)

    def has_device(self, vendor: str) -> None:
        device = self.place / "sys/bus/pci/devices/0000:00:1e.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"PATH": f"{self.programs}:{os.defpath}", "FLEET_SYSFS": str(self.place / "sys")}
        return subprocess.run(
            ["bash", str(PROVISION / script)],
            env=own | environment,
            capture_output=True,
            text=True,
            timeout=60 * PATIENCE,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_a_device_of_nvidia_gets_no_driver(machine: Machine) -> None:
    machine.has_device("0x1d0f")
    done = machine.run("30-nvidia.sh")
    assert done.returncode == 0, done.stderr
    assert "no driver" in done.stderr
    assert machine.asked.read_text() == ""


def test_a_machine_with_gpus_for_which_none_are_wanted_gets_no_driver(machine: Machine) -> None:
    machine.has_device("0x10de")
    assert "no driver" in machine.run("30-nvidia.sh", FLEET_CPU_ONLY="1").stderr
    assert machine.asked.read_text() == ""


def gpu_programs(machine: Machine, listed: int) -> None:
    lines = "\n".join(f"echo 'GPU {n}: NVIDIA A10G (UUID: GPU-{n})'" for n in range(listed))
    machine.has("nvidia-smi", lines or ":")


def test_the_supervisor_waits_until_the_driver_shows_all_gpus(machine: Machine) -> None:
    gpu_programs(machine, 1)
    done = machine.run("files/fleet-wait-gpus", FLEET_GPUS="2", FLEET_WAIT_S="1")
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last == "fleet-wait-gpus: the driver shows 1 of 2 GPUs, after 1 s; this machine takes no task"


def test_what_is_waited_for_is_on_the_console_before_the_boot_deadline_can_end_the_machine(machine: Machine) -> None:
    """The dispatcher puts the end of the console into the event log: tests/dispatcher/test_ending.py."""
    console = machine.place / "console"
    console.touch()
    gpu_programs(machine, 1)
    machine.has("sleep", "kill -KILL $PPID")  # its end comes at the first wait
    machine.run("files/fleet-wait-gpus", FLEET_GPUS="2", FLEET_CONSOLE=str(console), INVOCATION_ID="of-systemd")
    assert console.read_text() == "fleet-wait-gpus: waiting: the driver shows 1 of 2 GPUs\n"


def test_it_waits_for_a_driver_that_loads_slowly(machine: Machine) -> None:
    gpu_programs(machine, 0)
    machine.has("sleep", f"printf '#!/bin/sh\\necho GPU 0: A10G\\n' >{machine.programs}/nvidia-smi")  # while it waits
    machine.has("docker", "case $1 in run) echo 'GPU 0: A10G';; esac")
    done = machine.run("files/fleet-wait-gpus", FLEET_GPUS="1", FLEET_WAIT_S="20")
    assert done.returncode == 0, done.stderr


def test_it_says_that_no_container_sees_them(machine: Machine) -> None:
    gpu_programs(machine, 1)
    machine.has("docker", "case $1 in run) exit 125;; esac")
    done = machine.run("files/fleet-wait-gpus", FLEET_GPUS="1", FLEET_WAIT_S="1")
    assert done.returncode == 1
    assert "a container sees 0 of 1 GPUs; is the NVIDIA container toolkit installed?" in done.stderr


def test_a_machine_without_gpus_waits_for_none(machine: Machine) -> None:
    machine.has("docker", "exit 1")
    assert machine.run("files/fleet-wait-gpus", FLEET_GPUS="0").returncode == 0


def test_versions_are_read_by_the_shell_as_by_python() -> None:
    lib = PROVISION / "lib.sh"
    for section, keys in versions().items():
        for key, value in keys.items():
            command = ["bash", "-c", f'. {lib}; version_of "$1" "$2"', "x", section, key]
            assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{value}\n"


def test_an_archive_that_is_not_reached_is_not_taken_for_one_that_lacks_a_package(machine: Machine) -> None:
    machine.has("apt-get", "exit 100")
    machine.has("apt-cache", "exit 0")
    command = f". {PROVISION / 'lib.sh'}; exists linux-headers || fail 'take a newer image'"
    done = subprocess.run(
        ["bash", "-c", command],
        env={"PATH": f"{machine.programs}:{os.defpath}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "the archives of this machine cannot be read" in done.stderr
    assert "take a newer image" not in done.stderr


def test_a_machine_before_whose_metadata_no_filter_stands_takes_no_task_and_says_why(machine: Machine) -> None:
    rules = PROVISION / "files" / "metadata.nft"
    machine.has("nft", "cat >/dev/null; echo nft: no >&2; exit 1")
    machine.has("bash", f'exec /bin/bash "$1" {rules}')
    done = machine.run("files/fleet-metadata")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        f"fleet-metadata: {rules} cannot be loaded, as nft says above: tasks could read this machine's metadata, so it takes none; "
        "is nftables on it, and nf_tables in its kernel?",
    )
    supervisor = (PROVISION / "files" / "image.conf").read_text()
    assert "ExecStartPre=+/usr/bin/systemctl is-active fleet-metadata.service" in supervisor
