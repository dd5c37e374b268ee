"""The wall before the metadata service as it stands in a cloud: systemd with control groups of version 2 alone, our unit and packet filter, and
Docker, which puts its containers where systemd says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.assemble.package import IMAGES
from tests.system.box.ground import Ground
from tests.system.box.image import Unavailable
from tests.system.box.machine import Disk, Vm
from tests.waiting import wait_for

FILES = IMAGES / "provision" / "files"
NFT = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("vm"),
    pytest.mark.skipif(NFT is None, reason="no nft here (apt-get install nftables)"),
]
ASK = """
import socket
with socket.socket() as asking:
    asking.settimeout(5)
    asking.bind(("127.0.0.1", 0))
    print(asking.connect_ex(("169.254.169.254", 80)) == 0)
"""
SERVICE = "import socket; s = socket.create_server(('169.254.169.254', 80))\nwhile True: s.accept()[0].close()"
STATE = ("systemctl", "is-system-running")
READY = """
set -e
useradd --system fleet
install -D /opt/metadata.nft /etc/fleet/metadata.nft
systemctl start fleet-metadata.service docker.service
ip link set lo up
ip address add 169.254.169.254/32 dev lo
systemd-run --quiet --unit=metadata python3 -c "$1"
until ss -ltn | grep -q 169.254.169.254:80; do sleep 0.2; done
"""
CONTAINER_IMAGE = """
set -e
cd "$(mktemp -d)"
mkdir -p usr etc root tmp sbin
cp -a /bin /lib /lib64 .
tar -c . | docker import --change 'ENV PATH=/usr/sbin:/usr/bin' - box:latest
"""
# systemd-nspawn lets machines read control groups alone.
WRITABLE = "[Service]\nExecStartPre=/bin/mount -o remount,bind,rw /sys/fs/cgroup\n"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    try:
        ground = Ground(is_baked=False)
    except Unavailable as why:
        pytest.skip(str(why))
    place = tmp_path_factory.mktemp("machine")
    (place / "writable.conf").write_text(WRITABLE)
    (place / "ask").write_text(ASK)
    lent = {
        "/opt/metadata.nft": FILES / "metadata.nft",
        "/usr/local/sbin/fleet-metadata": FILES / "fleet-metadata",
        "/etc/systemd/system/fleet-metadata.service": FILES / "fleet-metadata.service",
        "/etc/docker/daemon.json": FILES / "daemon.json",
        "/etc/systemd/system/docker.service.d/writable.conf": place / "writable.conf",
        "/opt/ask": place / "ask",
        **nft_and_what_it_is_linked_to(),
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            vm = Vm(ground, "slices", ground.network.address(0), boots=Disk(root=ground.root, lent=lent))
        try:
            wait_for(lambda: vm.run(*STATE, check=False).strip() in ("running", "degraded"), 30, "it has booted")
            vm.run("bash", "-c", READY, "ready", SERVICE)
            vm.run("bash", "-c", CONTAINER_IMAGE)
            yield vm
        except AssertionError:
            print(vm.console[-4000:])
            raise
        finally:
            vm.lose()
            vm.process.wait()
    finally:
        ground.close()


def nft_and_what_it_is_linked_to() -> dict[str, Path]:
    """By their paths; the machine is of the same release as this one."""
    linked = subprocess.run(["ldd", str(NFT)], capture_output=True, text=True, check=True).stdout
    libraries = [each for each in re.findall(r"=> (/\S+)", linked) if "/libc.so" not in each]
    return {f"/usr{each}": Path(each).resolve() for each in libraries} | {"/usr/sbin/nft": Path(str(NFT))}


def test_services_reach_the_metadata_service_and_the_slice_of_the_tasks_does_not(machine: Vm) -> None:
    who = {
        "": "True",
        "--uid=fleet": "True",
        "--uid=nobody": "False",
        "--slice=user.slice": "True",
        "--slice=fleet-tasks.slice": "False",
        "--slice=fleet-tasks.slice --uid=fleet": "False",
    }
    assert machine.run("systemctl", "is-active", "fleet-metadata.service") == "active\n"
    assert {each: asked(machine, *each.split()) for each in who} == who


def asked(machine: Vm, *options: str) -> str:
    return machine.run("systemd-run", "--quiet", "--pipe", "--wait", *options, "python3", "/opt/ask").strip()


def test_a_container_of_the_engine_that_we_install_does_not_unless_its_root_is_made_a_service(machine: Vm) -> None:
    assert "Cgroup Driver: systemd" in machine.run("docker", "info")
    assert asked_in_a_container(machine) == "False"
    assert asked_in_a_container(machine, "--cgroup-parent", "system.slice") == "True"


def test_who_wants_tasks_to_have_the_rights_of_their_machine_opens_the_wall_as_the_page_says(machine: Vm) -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    (line,) = [each for each in page.splitlines() if "delete table inet fleet_metadata" in each]
    machine.run("bash", "-ec", line)
    assert machine.run("systemctl", "is-active", "fleet-metadata.service") == "active\n"
    assert asked_in_a_container(machine) == "True"


def asked_in_a_container(machine: Vm, *options: str) -> str:
    """On the machine's own network, as root."""
    mounts = [
        word for each in ("/usr/bin", "/usr/lib", "/usr/lib64", "/opt/ask") for word in ("-v", f"{each}:{each}:ro")
    ]
    run = ("docker", "run", "--rm", "--network", "host", *mounts, *options, "box:latest", "python3", "/opt/ask")
    return machine.run(*run).strip()
