"""What machines stand on: control groups, a baked root file system, a network; and that nothing of it is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.system.box import image
from tests.system.box.network import Network
from tests.waiting import PATIENCE

GUARD = Path(__file__).with_name("guard.sh")
CGROUPS = Path("/sys/fs/cgroup")
NEEDED = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "ip": "iproute2", "unshare": "util-linux"}


class Ground:
    """The place of one box. Everything in it ends with `close`, and also when this process is killed."""

    def __init__(self, *, is_baked: bool = True) -> None:
        """`is_baked`: its image has fleet on it; else it is as Debian makes it.

        Raises:
            Unavailable: no box can be made on this machine; the text says why.
        """
        check()
        stock = image.stock_image()
        self.name = f"fleetbox-{os.getpid()}"
        self.place = Path(tempfile.mkdtemp(prefix="fleet-box-", dir="/var/tmp"))
        self._guard = subprocess.Popen(
            ["/bin/sh", GUARD, self.name, self.place], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            self.network = Network(self.name)
            self.root = self._overlay(stock)
            if is_baked:
                image.bake(self.root)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(timeout=180 * PATIENCE)  # a provisioned disk has tens of thousands of files

    def groups(self, machine: str) -> list[Path]:
        """Directories, one in each hierarchy, that a machine's first process has to be in: systemd needs groups of its own."""
        made = [root / self.name / machine for root in hierarchies()]
        for group in made:
            group.mkdir(parents=True)
            for each in (group.parent, group):
                _inherit(each)
        return made

    def own_disk(self, machine: Path) -> Path:
        """A root file system of a machine's own below `machine`, over the baked one."""
        return _over(self.root, machine)

    def _overlay(self, stock: Path) -> Path:
        (self.place / "machines").mkdir()
        return _over(stock, self.place)


def _over(lower: Path, place: Path) -> Path:
    for name in ("root", "upper", "work"):
        (place / name).mkdir()
    options = f"lowerdir={lower},upperdir={place}/upper,workdir={place}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, place / "root"], check=True)
    return place / "root"


def check() -> None:
    """
    Raises:
        Unavailable: something is missing here.
    """
    if os.geteuid() != 0:
        raise image.Unavailable("machines are made by root alone")
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            raise image.Unavailable(f"no {program} here; as root: apt-get install {package}")
    if not Path("/proc/self/ns/time").exists():
        raise image.Unavailable(
            "this kernel has no time namespaces (CONFIG_TIME_NS): machines would not know when they booted"
        )
    if not all(os.access(root, os.W_OK) for root in hierarchies()):
        raise image.Unavailable("the control groups of this machine are not ours to write")


def hierarchies() -> list[Path]:
    """Where control groups are: one place with v2, one for each controller with v1, both on a hybrid machine."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [
        Path(where)
        for _, where, kind, *_ in mounts
        if kind in ("cgroup", "cgroup2") and CGROUPS in (Path(where), Path(where).parent)
    ]


def _inherit(group: Path) -> None:
    """What the kernel does not pass down by itself: the processors of v1's cpuset, the controllers of v2."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = group / name
        if file.exists() and not (group / "cgroup.controllers").exists():
            file.write_text((group.parent / name).read_text())
    offered = group.parent / "cgroup.controllers"
    if offered.exists():
        for controller in offered.read_text().split():
            with suppress(OSError):  # a controller that is used elsewhere cannot be had; machines boot without it
                (group.parent / "cgroup.subtree_control").write_text(f"+{controller}")
