"""The packet filter of an image: root and the supervisor reach the metadata service, nobody else on the machine, and no container on a bridge."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from fleet.assemble.package import IMAGES

PROGRAMS = f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"
MISSING = [name for name in ("nft", "ip", "unshare") if shutil.which(name, path=PROGRAMS) is None]
WHY_NOT = f"no {', '.join(MISSING)} here (apt-get install nftables iproute2)" if MISSING else None
if os.geteuid() != 0:
    WHY_NOT = "a network of one's own is for root"
SUPERVISOR, STRANGER = 1234, 1000
# In a network of its own, where the metadata service is this process. Loaded twice: the second run of the unit replaces the first.
SCRIPT = """
import json, os, socket, subprocess, sys
for command in ("ip link set lo up", "ip address add 169.254.169.254/32 dev lo", "nft -f /dev/stdin", "nft -f /dev/stdin"):
    subprocess.run(command.split(), input=sys.argv[1].encode(), check=True)
service = socket.create_server(("169.254.169.254", 80))
def reaches(user):
    child = os.fork()
    if child == 0:
        os.setuid(user)
        with socket.socket() as asking:
            asking.settimeout(2)
            os._exit(0 if asking.connect_ex(("169.254.169.254", 80)) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0
print(json.dumps([reaches(int(user)) for user in sys.argv[2:]]))
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
do("nft -f /dev/stdin", sys.argv[1])
print(json.dumps([before, reaches(*box), reaches()]))
service.kill()
"""


@pytest.mark.system
@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_what_a_machine_forwards_for_its_containers_does_not_reach_the_metadata_service() -> None:
    rules = (IMAGES / "provision" / "files" / "metadata.nft").read_text().replace('"fleet"', str(SUPERVISOR))
    assert in_a_network_of_its_own(FORWARDED, rules) == [True, False, True]


@pytest.mark.system
@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_only_root_and_the_supervisor_reach_the_metadata_service() -> None:
    rules = (IMAGES / "provision" / "files" / "metadata.nft").read_text()
    assert '"fleet"' in rules
    asked = [rules.replace('"fleet"', str(SUPERVISOR)), "0", str(SUPERVISOR), str(STRANGER)]
    assert in_a_network_of_its_own(SCRIPT, *asked) == [True, True, False]


def in_a_network_of_its_own(script: str, *arguments: str) -> object:
    """What it prints, as JSON. Its networks and mounts end with it."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-c", script, *arguments],
        env={**os.environ, "PATH": PROGRAMS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
