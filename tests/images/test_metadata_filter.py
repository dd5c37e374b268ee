"""The packet filter of an image: root's services and the supervisor reach the metadata service, nobody else on the machine, and no container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from fleet.assemble.package import IMAGES
from tests.waiting import PATIENCE

PROGRAMS = f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"
MISSING = [name for name in ("nft", "ip", "unshare", "setpriv") if shutil.which(name, path=PROGRAMS) is None]
WHY_NOT = f"no {', '.join(MISSING)} here (apt-get install nftables iproute2)" if MISSING else None
if os.geteuid() != 0:
    WHY_NOT = "a network of one's own is for root"
FILES = IMAGES / "provision" / "files"
SUPERVISOR, STRANGER = 1234, 1000
# The hierarchy of version 2: alone, or beside those of version 1.
V2 = next(
    (each for each in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")) if (each / "cgroup.procs").exists()), None
)
# Of the tests' own, at the places where systemd and the engine put such processes.
SERVICE, LOGIN = f"system.slice/fleet-test-{os.getpid()}.service", f"user.slice/fleet-test-{os.getpid()}.scope"
CONTAINER = f"fleet.slice/fleet-tasks.slice/fleet-test-{os.getpid()}.scope"
# In a network of its own, where the metadata service is this process. Loaded twice: the second run of the unit replaces the first.
# A place is a cgroup of version 2, seen where nft looks for it; "" is the topmost. Without cgroups nothing is there.
SCRIPT = """
import json, os, pathlib, socket, subprocess, sys
rules, script, v2, *asked = sys.argv[1:]
groups = pathlib.Path("/sys/fs/cgroup")
# Shows either the hierarchy, or nothing.
mount = ["mount", "--bind", v2, groups] if v2 else ["mount", "-t", "tmpfs", "none", groups]
for command in (mount, *(line.split() for line in ("ip link set lo up", "ip address add 169.254.169.254/32 dev lo"))):
    subprocess.run(command, check=True)
made = []
def there(place):
    for each in (*reversed(place.parents), place):
        if groups in each.parents and not each.exists():
            each.mkdir()
            made.append(each)
    return place
def reaches(user, place, port):
    child = os.fork()
    if child == 0:
        if v2:
            (groups / place / "cgroup.procs").write_text("0")
        os.setuid(user)
        with socket.socket() as asking:
            asking.settimeout(2)
            asking.bind(("127.0.0.1", 0))  # an answer that goes to the service's own address would be held for a question
            os._exit(0 if asking.connect_ex(("169.254.169.254", port)) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0
try:
    if v2:
        for each in ("system.slice", "user.slice"):
            there(groups / each)
    wanted = [(int(user), place, int(port)) for user, place, port in (each.split(":") for each in asked)]
    for _, place, _ in wanted:
        if v2 and place:
            there(groups / place)
    said = [subprocess.run(["bash", script, rules], check=True, stderr=subprocess.PIPE, text=True).stderr for _ in "12"]
    services = [socket.create_server(("169.254.169.254", port)) for port in (80, 53)]
    print(json.dumps([said[-1].splitlines()[-1:], [reaches(*each) for each in wanted]]))
finally:
    for each in reversed(made):
        each.rmdir()
"""

# A container on a bridge, its machine, and its cloud, each in a network of its own; the machine forwards as Docker makes it do.
FORWARDED = """
import json, subprocess, sys
def do(line, text=None):
    return subprocess.run(line.split(), input=text, text=True, check=True)
for line in '''
mount -t tmpfs none /run
ip netns add box
ip netns add cloud
ip link add to-box type veth peer name eth0 netns box
ip link add to-cloud type veth peer name eth0 netns cloud
ip address add 10.77.0.1/24 dev to-box
ip address add 10.78.0.1/24 dev to-cloud
ip link set to-box up
ip link set to-cloud up
ip -n box address add 10.77.0.2/24 dev eth0
ip -n box link set eth0 up
ip -n box route add default via 10.77.0.1
ip -n cloud address add 10.78.0.2/24 dev eth0
ip -n cloud link set eth0 up
ip -n cloud link set lo up
ip -n cloud address add 169.254.169.254/32 dev lo
ip -n cloud route add default via 10.78.0.1
ip route add 169.254.169.254/32 via 10.78.0.2
mount -t tmpfs none /sys/fs/cgroup
'''.strip().splitlines():
    do(line)
open("/proc/sys/net/ipv4/ip_forward", "w").write("1")
LISTEN = "import socket; s = socket.create_server(('169.254.169.254', 80)); print(1, flush=True); s.accept(); s.accept(); s.accept()"
service = subprocess.Popen(["ip", "netns", "exec", "cloud", sys.executable, "-c", LISTEN], stdout=subprocess.PIPE)
service.stdout.readline()
ASK = "import socket; s = socket.socket(); s.settimeout(1); raise SystemExit(s.connect_ex(('169.254.169.254', 80)) != 0)"
def reaches(*where):
    return subprocess.run([*where, sys.executable, "-c", ASK]).returncode == 0
box = ["ip", "netns", "exec", "box"]
before = reaches(*box)
do("bash " + " ".join(sys.argv[1:3]))
print(json.dumps([before, reaches(*box), reaches("setpriv", "--reuid", sys.argv[3])]))
service.kill()
"""


@pytest.mark.system
@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_what_a_machine_forwards_for_its_containers_does_not_reach_the_metadata_service(rules: Path) -> None:
    assert in_a_network_of_its_own(FORWARDED, str(FILES / "fleet-metadata"), str(rules), str(SUPERVISOR)) == [
        True,
        False,
        True,
    ]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """As they are shipped, but for the name of the supervisor's user, which this machine has not."""
    text = (FILES / "metadata.nft").read_text()
    assert '"fleet"' in text
    (tmp_path / "metadata.nft").write_text(text.replace('"fleet"', str(SUPERVISOR)))
    return tmp_path / "metadata.nft"


def reach(rules: Path, v2: Path | None, who: Mapping[str, bool]) -> object:
    """The last line that loading the rules said, and which of `who` (user:cgroup:port) reach the metadata service."""
    arguments = [str(rules), str(FILES / "fleet-metadata"), str(v2 or ""), *who]
    return in_a_network_of_its_own(SCRIPT, *arguments)


@pytest.mark.system
@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
@pytest.mark.skipif(V2 is None, reason="no cgroups of version 2 here")
def test_only_root_s_services_and_the_supervisor_reach_the_metadata_service_and_no_container_whoever_it_runs_as(
    rules: Path,
) -> None:
    who = {
        f"0:{SERVICE}:80": True,
        f"{SUPERVISOR}:{SERVICE}:80": True,
        f"{STRANGER}:{SERVICE}:80": False,
        f"0:{LOGIN}:80": True,
        f"{SUPERVISOR}:{LOGIN}:80": False,
        f"0:{CONTAINER}:80": False,
        f"{SUPERVISOR}:{CONTAINER}:80": False,
        "0::80": False,
        # Google's machines ask for names there.
        f"{STRANGER}:{SERVICE}:53": True,
        f"{STRANGER}:{CONTAINER}:53": True,
    }
    assert reach(rules, V2, who) == [[], list(who.values())]


@pytest.mark.system
@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_where_the_kernel_cannot_tell_containers_the_metadata_service_is_closed_to_root_too_and_the_machine_says_so(
    rules: Path,
) -> None:
    who = {"0::80": False, f"{SUPERVISOR}::80": True, f"{STRANGER}::80": False, f"{STRANGER}::53": True}
    said, reached = reach(rules, None, who)  # type: ignore[misc]
    assert reached == list(who.values())
    assert said[0].startswith("fleet-metadata: cgroups of version 2 are not to be had here")


def in_a_network_of_its_own(script: str, *arguments: str) -> object:
    """What it prints, as JSON. Its networks and mounts end with it."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-c", script, *arguments],
        env={**os.environ, "PATH": PROGRAMS},
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
