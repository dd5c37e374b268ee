"""A stock Debian becomes a machine of fleet: Packer runs the provision scripts of `images/`, in a container on an engine of the test's
own, with Debian's archive and PyPI. Nothing is started there: that machines boot from such an image is told in test_first_boot.py."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import __version__
from fleet.assemble.baking import image_of, versions
from fleet.assemble.package import write_package
from tests.images.packing import PACKER, PACKER_MISSING, quiet
from tests.system import docker_engine
from tests.system.box.image import Unavailable, stock_image
from tests.system.docker_engine import DockerEngine
from tests.waiting import PATIENCE

WHY_NOT = docker_engine.why_not() or PACKER_MISSING
pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("docker"),
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]
CA = Path("/etc/ssl/certs/ca-certificates.crt")  # of this machine: what it trusts may be a proxy's
SOURCE = """
source "docker" "machine" {
  image       = "stock:latest"
  pull        = false
  commit      = true
  changes     = ["ENTRYPOINT []", "CMD [\\"/bin/sh\\"]"]
  run_command = ["-d", "-i", "-t", "--network=host", MOUNTS, "--entrypoint=/bin/sh", "--", "{{ .Image }}"]
}
"""
# What apt and pip say where there is no way out.
UNREACHABLE = (
    "Temporary failure resolving",
    "Could not connect to",
    "Failed to establish a new connection",
    "Network is unreachable",
)
# All that lies on the disk, by content and by the time at which it was last touched.
PICTURE = (
    "find / -xdev \\( -path /proc -o -path /tmp -o -path /var/log -o -path /run -o -path /sys -o -path /dev \\) -prune"
    " -o -type f -printf '%p %s %T@ %m\\n' | sort"
)
# What a machine has that has run before it is baked: who it is, who may come in, what was typed, as whom it would enrol.
PLANTED = {
    "/etc/ssh/ssh_host_ed25519_key": "PLANTED PRIVATE KEY",
    "/etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 PLANTED",
    "/root/.ssh/authorized_keys": "ssh-ed25519 PLANTED",
    "/root/.bash_history": "export TOKEN=PLANTED",
    "/etc/machine-id": "0123456789abcdef0123456789abcdef",
    "/var/lib/dbus/machine-id": "0123456789abcdef0123456789abcdef",
    "/var/lib/systemd/random-seed": "PLANTED",
    "/etc/fleet/supervise.env": "FLEET_JOIN_TOKEN=PLANTED",
    "/var/log/cloud-init-output.log": "PLANTED",
}
PLANTING = "\n".join(
    f'      "mkdir -p $(dirname {path})", "rm -f {path}", "echo {text} >{path}",' for path, text in PLANTED.items()
)
AGAIN = f"""
  provisioner "shell" {{
    inline = [
      "{PICTURE.replace(chr(92), chr(92) * 2)} >/tmp/before",
      "env FLEET_CPU_ONLY=1 bash /opt/fleet-package/provision/run.sh boot",
      "{PICTURE.replace(chr(92), chr(92) * 2)} >/tmp/after",
      "diff /tmp/before /tmp/after >/tmp/changed || true",
    ]
  }}
"""


@pytest.fixture(scope="module")
def built(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image that Packer made of a stock Debian by the build of the AMI, which differs in its source alone."""
    place = tmp_path_factory.mktemp("packer")
    try:
        stock = stock_image()
    except Unavailable as why:
        pytest.skip(str(why))
    docker = ["/usr/bin/docker", "-H", engine.url]
    with subprocess.Popen(["tar", "-C", str(stock), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run([*docker, "import", "-", "stock:latest"], stdin=tar.stdout, check=True, capture_output=True)
    write_package(place / "package")
    (place / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (place / "sudo").chmod(0o755)
    (place / "build.pkr.hcl").write_text(template(place))
    told = ["-var", f"package={place}/package", "-var", f"manifest={place}/manifest.json", "-var", "gpu="]
    told += ["-var", "region=none", "-var", "name=fleet-test"]
    began = time.monotonic()
    done = subprocess.run(
        ["packer", "build", "-color=false", *told, str(place / "build.pkr.hcl")],
        env=quiet(place) | {"DOCKER_HOST": engine.url, "PATH": f"/usr/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=180 * PATIENCE,
        check=False,
    )
    print(done.stdout, done.stderr, f"{time.monotonic() - began:.1f} s")
    said = done.stdout + done.stderr
    if done.returncode and (sign := next((sign for sign in UNREACHABLE if sign in said), None)):
        pytest.skip(f"Debian's archive or PyPI cannot be reached from a container here: {sign}")
    assert done.returncode == 0, said[-6000:]
    image = "sha256:" + image_of(place / "manifest.json").removeprefix("sha256:")
    yield image
    subprocess.run([*docker, "rmi", "-f", image, "stock:latest"], capture_output=True, check=False)


def template(place: Path) -> str:
    """The AMI's template, with a container instead of an EC2 instance, and a second run at its end."""
    text = (PACKER / "aws.pkr.hcl").read_text()
    variables, rest = text.split('source "amazon-ebs"')
    build = "build {" + rest.split("build {")[1]
    mounts = [f'"-v", "{place}/sudo:/usr/local/bin/sudo:ro"']
    if CA.exists():
        mounts.append(f'"-v", "{CA}:/mnt/ca.crt:ro", "-e", "PIP_CERT=/mnt/ca.crt"')
    build = build.replace("amazon-ebs", "docker").replace("  post-processor", f"{AGAIN}\n  post-processor")
    before = f'  provisioner "shell" {{\n    inline = [\n{PLANTING}\n    ]\n  }}\n'
    build = build.replace('  provisioner "shell"', f'{before}\n  provisioner "shell"', 1)
    return variables + SOURCE.replace("MOUNTS", ", ".join(mounts)) + build


@pytest.fixture(scope="module")
def shell(built: str, engine: DockerEngine):
    """Run a command in a machine of this image."""

    def run(script: str) -> str:
        command = [
            "/usr/bin/docker",
            "-H",
            engine.url,
            "run",
            "--rm",
            "--network=none",
            "--entrypoint=/bin/sh",
            built,
            "-c",
            script,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_stock_debian_gets_fleet_and_the_pinned_agent_each_in_an_environment_of_its_own(shell):
    assert shell("/opt/fleet/bin/fleet version").strip() == __version__
    agent = shell("/opt/fleet-agent/bin/python -c 'import clearml_agent.version as v; print(v.__version__)'")
    assert agent.strip() == versions()["clearml"]["agent"]
    assert shell("ls /opt/fleet/lib/python3*/site-packages | grep -c clearml_agent || true").strip() == "0"
    supervise = "FLEET_CENTRE_URL= /opt/fleet/bin/fleet supervise 2>&1 || true"
    assert "FLEET_JOIN_TOKEN" in shell(supervise)
    found = shell(
        "FLEET_AGENT_PYTHON=/opt/fleet-agent/bin/python /opt/fleet/bin/python -c "
        "'from fleet.supervisor.agent_home import agent_version; print(agent_version())'"
    )
    assert found.strip() == versions()["clearml"]["agent"]


def test_it_has_the_user_the_units_and_the_timers_that_end_it_but_no_supervisor_before_its_first_boot(shell):
    assert "docker" in shell("id -nG fleet").split()
    enabled = shell("ls /etc/systemd/system/*.wants/ | grep '^fleet-'").split()
    assert sorted(enabled) == ["fleet-lifetime.timer", "fleet-metadata.service", "fleet-watch.timer"]
    assert "FLEET_AGENT_PYTHON=/opt/fleet-agent" in shell("cat /etc/systemd/system/fleet-supervise.service.d/*")
    assert (
        shell("systemd-analyze verify fleet-supervise.service fleet-metadata.service 2>&1 | grep fleet- || true") == ""
    )


def test_a_second_run_finds_everything_done_and_changes_nothing(shell):
    assert shell("cat /tmp/changed") == ""
    assert int(shell("wc -l </tmp/before")) > 5000


def test_a_cpu_machine_gets_no_gpu_software(shell):
    assert shell("command -v nvidia-smi nvidia-ctk || true") == ""


def test_nothing_of_the_machine_that_baked_is_left(shell):
    places = "/var/lib/apt/lists /root/.ssh /root/.cache /etc/ssh /tmp/fleet-package"
    left = shell(f"find {places} -type f 2>/dev/null || true").split()
    assert [each for each in left if not each.endswith("ssh_config")] == []
    kept = shell("; ".join(f"if [ -s {path} ]; then echo {path}; fi" for path in PLANTED))
    assert kept.split() == []
    assert shell("grep -rls PLANTED /etc /root /home /opt /var || true") == ""
    assert shell("test -f /etc/machine-id && cat /etc/machine-id") == ""
    assert shell("ls /var/lib/cloud 2>/dev/null || true").split() in ([], ["scripts", "seed"])
    suspicious = re.compile(r"FLEET_JOIN_TOKEN=.|PRIVATE KEY")
    assert not suspicious.search(
        shell("grep -rhsE 'FLEET_JOIN_TOKEN=.|PRIVATE KEY' /etc/fleet /etc/systemd /root || true")
    )


def test_no_registry_and_no_credential_for_one_is_in_an_image(shell):
    named = r"\( -name pip.conf -o -name .netrc -o -path '*/.docker/config.json' \)"
    assert shell(f"find / -xdev -type f {named}") == ""
    assert (
        shell("grep -rlsE 'index-url|PIP_(EXTRA_)?INDEX|registry-mirrors' /etc /root /home /var/lib/fleet || true")
        == ""
    )
