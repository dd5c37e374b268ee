"""The stock image (Debian with cloud-init and docker), made once and kept, and what baking adds to it."""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.system.box.network import GATEWAY

ROOT = Path(__file__).parents[3]
UNITS = ROOT / "images" / "systemd"
PACKAGES = ("cloud-init", "dbus", "docker.io", "iproute2", "iptables", "python3", "systemd-sysv")
UNREAD = ("doc", "man", "locale", "i18n")
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"

# What makes a machine of this cloud: its address is fixed (no DHCP), its metadata is Amazon's.
HARDWARE = """
set -e
rm -f /sbin/dhclient /etc/hostname /etc/resolv.conf
systemctl mask -q apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \\
  fstrim.timer getty@tty1.service console-getty.service
: >/etc/machine-id
cat >/etc/cloud/cloud.cfg.d/90_box.cfg <<'END'
datasource_list: [Ec2, None]
network: {config: disabled}
locale: C.UTF-8
apt_preserve_sources_list: true
END
echo 'datasource: Ec2' >/etc/cloud/ds-identify.cfg
cat >/etc/box-hardware <<'END'
set -e
mount -o remount,rw /sys
mkdir -p /sys/hypervisor
echo ec200000-0000-4000-8000-000000000000 >/sys/hypervisor/uuid
mount -o remount,ro /sys
ip link set lo up
ip address add "$(cat /etc/box-address)" dev host0
ip link set host0 up
ip route add default via GATEWAY
END
cat >/etc/systemd/system/box-hardware.service <<'END'
[Unit]
Description=a network card, and firmware that says Amazon, else cloud-init asks for metadata without a token
DefaultDependencies=no
Before=cloud-init-local.service
[Service]
Type=oneshot
ExecStart=/bin/sh /etc/box-hardware
[Install]
WantedBy=sysinit.target
END
systemctl enable -q box-hardware.service
mkdir /etc/systemd/system/docker.service.d
cat >/etc/systemd/system/docker.service.d/box.conf <<'END'
[Service]
# systemd-nspawn lets machines read control groups alone.
ExecStartPre=/bin/sh -c 'for g in /sys/fs/cgroup /sys/fs/cgroup/*; do mountpoint -q $$g && mount -o remount,bind,rw $$g; done; true'
END
""".replace("GATEWAY", GATEWAY)
# What makes it a machine of fleet, without our provision scripts and without a network.
BAKED = """
set -e
useradd --system --create-home --home-dir /var/lib/fleet --shell /usr/sbin/nologin --groups docker fleet
systemctl disable -q docker.service docker.socket containerd.service
printf '#!/bin/sh\\ncat >/dev/null\\n' >/usr/bin/nvidia-container-runtime-hook # by its name docker knows that there are GPUs
chmod 755 /usr/bin/nvidia-container-runtime-hook
cat >/opt/box-container-image <<'END'
CONTAINER_IMAGE
END
"""
# A container image that needs no registry: directories and links alone; the machine's programs are mounted into it.
CONTAINER_IMAGE = """
set -e
cd "$(mktemp -d)"
mkdir -p usr etc root tmp var/tmp sbin
chmod 1777 tmp var/tmp
cp -a /bin /lib /lib64 . && cp /etc/passwd etc
tar -c . | docker import --change 'ENV PATH=/opt/fleet-agent/bin:/opt/fleet/bin:/usr/sbin:/usr/bin' - box:latest
"""
# A stock Debian has no container engine.
WITHOUT_DOCKER = (
    "dpkg --purge --force-depends docker.io containerd runc iptables && rm -rf /var/lib/docker /var/lib/containerd"
)


class Unavailable(Exception):
    """Such an image cannot be made here; the text says why."""


def stock_image() -> Path:
    """The directory of a root file system that nobody may write to. The first call on a machine takes a minute.

    Raises:
        Unavailable: this machine's Debian has another Python than the tests, or its packages cannot be had.
    """
    codename, lists = _codename(), sources()
    inputs = "\n".join([codename, *PACKAGES, *UNREAD, *(file.read_text() for file in lists)])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fleet-tests"
    image = cache / f"vm-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.exists():
            for old in cache.glob("vm-*"):
                shutil.rmtree(old)
            _make(image, codename, lists)
    if not (image / "usr" / "bin" / PYTHON).exists():
        raise Unavailable(f"the tests run on {PYTHON}, which is not the Python of Debian {codename}")
    return image


def bake(root: Path) -> None:
    """Make a stock image one of this cloud, and put fleet where its units expect it, as a baked image has it."""
    in_image(root, HARDWARE)
    in_image(root, BAKED.replace("CONTAINER_IMAGE", CONTAINER_IMAGE))
    _install(root / "opt" / "fleet")
    (root / "opt" / "fleet" / ".provisioned").touch()
    for unit in UNITS.iterdir():
        if unit.name != "fleet-dispatch.service":
            shutil.copy(unit, root / "etc" / "systemd" / "system")
    timers = [unit.name for unit in UNITS.glob("*.timer")]
    subprocess.run(["chroot", root, "systemctl", "enable", "-q", *timers], check=True)


def leave_stock(root: Path) -> None:
    """Make a stock image one of this cloud, with nothing of fleet, and without docker."""
    in_image(root, WITHOUT_DOCKER)
    in_image(root, HARDWARE)


def finish(root: Path) -> None:
    """Make an image of the disk of a machine that was provisioned, and ended: as Packer does before it takes one."""
    nspawn = [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--private-network",
        "--pipe",
        "-D",
        str(root),
    ]
    nspawn += ["--setenv=FLEET_CPU_ONLY=1", "bash", "/opt/fleet-package/provision/run.sh", "bake"]
    done = subprocess.run(nspawn, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def in_image(root: Path, script: str) -> None:
    """Run a script of the shell in an image that no machine runs."""
    done = subprocess.run(["chroot", root, "/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"


def _make(image: Path, codename: str, sources: list[Path]) -> None:
    part = image.with_name(f"part-{image.name}")
    shutil.rmtree(part, ignore_errors=True)
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory", "--quiet"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD]
    command += ["--dpkgopt=force-unsafe-io", f"--include={','.join(PACKAGES)}", codename, str(part), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        shutil.rmtree(part, ignore_errors=True)
        raise Unavailable(f"no image could be made: {' '.join(done.stderr.split())[-400:]}")
    part.rename(image)


def _codename() -> str:
    text = Path("/etc/os-release").read_text()
    found = re.search(r"^VERSION_CODENAME=(\w+)", text, re.MULTILINE)
    if "ID=debian" not in text.splitlines() or not found:
        raise Unavailable("images are made from the packages of the machine that tests, which must be a Debian")
    return found[1]


def sources() -> list[Path]:
    """Where this machine has its Debian packages from."""
    apt = Path("/etc/apt")
    files = [
        apt / "sources.list",
        *(apt / "sources.list.d").glob("*.list"),
        *(apt / "sources.list.d").glob("*.sources"),
    ]
    return sorted(
        f for f in files if f.exists() and re.search(rf"^[^#]*\s{_codename()}\s", f.read_text(), re.MULTILINE)
    )


def _install(target: Path) -> None:
    """An environment for the machine's own Python, with what the edge needs; no network is asked."""
    site = target / "lib" / PYTHON / "site-packages"
    site.mkdir(parents=True)
    for each in _closure("fleet", ("agent",)):
        for file in each.files or ():
            if file.parts[0] == ".." or not (source := Path(str(file.locate()))).is_file():
                continue
            copy = site / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)  # with its times: compiled files stay valid
    for package in ("fleet", "agent_hooks"):
        shutil.copytree(ROOT / package, site / package, dirs_exist_ok=True)
        compileall.compile_dir(site / package, quiet=1, stripdir=str(target.parent.parent))
    (target / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    programs = target / "bin"
    programs.mkdir()
    for name in ("python", "python3"):
        (programs / name).symlink_to("/usr/bin/python3")
    (programs / "fleet").write_text(
        "#!/opt/fleet/bin/python3\nimport sys\nfrom fleet.__main__ import main\nsys.exit(main())\n"
    )
    (programs / "fleet").chmod(0o755)


def _closure(name: str, extras: tuple[str, ...]) -> list[Distribution]:
    """A distribution and all that it needs, as installed beside the tests."""
    found: dict[str, Distribution] = {}

    def walk(name: str, extras: tuple[str, ...]) -> Iterator[None]:
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            return
        found[key] = distribution(name)
        for text in found[key].requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in (*extras, "")):
                yield from walk(needed.name, tuple(needed.extras))

    list(walk(name, extras))
    return list(found.values())
