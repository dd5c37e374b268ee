"""What a container of ours has of its machine's metadata service: a Docker engine in a network of the test's own, before which our packet filter stands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleet.assemble.package import IMAGES
from fleet.supervisor.arguments import read
from fleet.supervisor.engine import Engine, Wanted
from tests.system import docker_engine
from tests.system.docker_engine import IMAGE, DockerEngine
from tests.waiting import PATIENCE, wait_for

V2 = next(
    (each for each in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")) if (each / "cgroup.procs").exists()), None
)
WHY_NOT = docker_engine.why_not()
if missing := [
    name for name in ("nft", "nsenter") if shutil.which(name, path=f"/usr/sbin:{os.environ['PATH']}") is None
]:
    WHY_NOT = f"no {' and '.join(missing)} here (apt-get install nftables util-linux)"
if V2 is None:
    WHY_NOT = "no cgroups of version 2 here"
pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("docker"),
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]
SERVICE = "import socket; s = socket.create_server(('169.254.169.254', 80)); print(1, flush=True)\nwhile True: s.accept()[0].close()"
ASK = """
import socket
def can(do):
    try:
        do()
    except OSError as error:
        return type(error).__name__
    return "yes"
print(can(lambda: socket.create_connection(("169.254.169.254", 80), 5, ("127.0.0.1", 0))), can(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)))
"""
SLICES = ("system.slice", "user.slice")
ON_THE_MACHINE = """
echo 0 >"$1/cgroup.procs"; shift
exec "$@"
"""
# nft looks for cgroups of version 2 at one place alone.
FILTER = """
if [ "$1" != /sys/fs/cgroup ]; then mount --bind "$1" /sys/fs/cgroup; fi
sed 's/"fleet"/1234/' "$2" | nft -f /dev/stdin
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Sequence[str]]:
    """A network with a metadata service and the filter of our images before it; the command that runs others in it."""
    assert V2 is not None
    with ExitStack() as ends:
        for place in (V2 / each for each in (*SLICES, f"system.slice/fleet-test-{os.getpid()}.service")):
            if not place.exists():
                place.mkdir()
                ends.callback(place.rmdir)
        holder = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        ends.callback(lambda: (holder.kill(), holder.wait()))
        ours = os.stat("/proc/self/ns/net").st_ino
        wait_for(lambda: os.stat(f"/proc/{holder.pid}/ns/net").st_ino != ours, 10, "it has a network of its own")
        inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]
        for line in ("ip link set lo up", "ip address add 169.254.169.254/32 dev lo"):
            subprocess.run([*inside, *line.split()], check=True)
        service = subprocess.Popen([*inside, sys.executable, "-c", SERVICE], stdout=subprocess.PIPE)
        ends.callback(lambda: (service.kill(), service.wait()))
        assert service.stdout is not None
        assert service.stdout.readline() == b"1\n"
        rules = IMAGES / "provision" / "files" / "metadata.nft"
        subprocess.run([*inside, "unshare", "--mount", "sh", "-c", FILTER, "sh", V2, rules], check=True)
        yield inside


@pytest.fixture(scope="module")
def walled_off(network: Sequence[str]) -> Iterator[DockerEngine]:
    with docker_engine.running(network) as engine:
        yield engine


def test_root_in_a_container_on_the_machine_s_network_reaches_no_metadata_by_no_kind_of_socket_and_a_service_does(
    walled_off: DockerEngine, network: Sequence[str]
) -> None:
    engine = Engine(walled_off.url)
    wanted = Wanted(
        name="fleet-test-metadata",
        image=IMAGE,
        command=(sys.executable, "-c", ASK),
        labels={},
        environment={},
        gpus=(),
        options=read(walled_off.arguments, is_ours=True),
        network="host",
    )
    container = engine.create(wanted)
    engine.start(container)
    walled_off.api.wait(container, timeout=60 * PATIENCE)
    console = walled_off.api.logs(container).decode()
    asked_for = walled_off.api.inspect_container(container)["HostConfig"]
    engine.close()
    assert asked_for["CgroupParent"] == "fleet-tasks.slice"
    assert console == "ConnectionRefusedError PermissionError\n"
    service = f"{V2}/system.slice/fleet-test-{os.getpid()}.service"
    done = subprocess.run(
        [*network, "sh", "-c", ON_THE_MACHINE, "sh", service, sys.executable, "-c", ASK],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "yes yes\n"
