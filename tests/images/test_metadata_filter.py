"""The packet filter of an image: root and the supervisor reach the metadata service, nobody else does."""

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


@pytest.mark.system
@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_only_root_and_the_supervisor_reach_the_metadata_service() -> None:
    rules = (IMAGES / "provision" / "files" / "metadata.nft").read_text()
    assert '"fleet"' in rules
    asked = [rules.replace('"fleet"', str(SUPERVISOR)), "0", str(SUPERVISOR), str(STRANGER)]
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", SCRIPT, *asked],
        env={**os.environ, "PATH": PROGRAMS},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, True, False]
