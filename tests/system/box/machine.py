"""One virtual machine: systemd as PID 1, cloud-init, a network card, a console that is written to a file."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.system.box.ground import Ground
from tests.system.box.network import BRIDGE
from tests.waiting import PATIENCE, wait_for

# A shell that puts itself into the groups before it becomes the machine.
ENTER = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
REBOOTS = 133  # systemd-nspawn --keep-unit, to whoever shall start it again
# What docker needs in a machine of this kind: all capabilities, two calls that are filtered otherwise, a disk that is no overlay.
FOR_DOCKER = ("--capability=all", "--system-call-filter=@keyring bpf")


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What a machine boots from, other than the ground's own image."""

    root: Path
    docker: Path | None = None  # what its container engine has already
    is_kept: bool = False  # what the machine writes stays on it; else it is lost with the machine
    lent: Mapping[str, Path] = field(default_factory=dict)  # files of ours that the machine reads, by their paths there


class Vm:
    """Boots when it is made. It has ended when its process has; status 0 is a power-off from within."""

    def __init__(
        self, ground: Ground, name: str, address: str, keeps_disk: bool = False, boots: Disk | None = None
    ) -> None:
        """`name`: at most 11 characters. `keeps_disk`: it can `boot` again, and finds what it wrote."""
        self.name, self.address = name, address
        self.place = ground.place / "machines" / name
        self.place.mkdir()
        card = self.place / "address"
        card.write_text(f"{address}/24")
        self.docker = self.place / "docker"
        if boots and boots.docker:
            subprocess.run(["cp", "--archive", boots.docker, self.docker], check=True)
        else:
            self.docker.mkdir()
        self._network, self._groups = ground.network, ground.groups(name)
        self.keeps_disk = keeps_disk
        disk = boots or Disk(root=ground.own_disk(self.place) if keeps_disk else ground.root, is_kept=keeps_disk)
        self._nspawn = [
            *("systemd-nspawn", "--quiet", "--directory", str(disk.root), f"--machine={name}"),
            *(() if disk.is_kept else ("--volatile=overlay",)),
            f"--hostname={name}",
            *("--register=no", "--keep-unit", "--boot", "--console=read-only", f"--network-bridge={BRIDGE}"),
            *("--link-journal=no", "--resolv-conf=off", "--timezone=off", *FOR_DOCKER),
            f"--bind-ro={card}:/etc/box-address",
            f"--bind={self.docker}:/var/lib/docker",
            *(f"--bind-ro={file}:{path}" for path, file in disk.lent.items()),
            "systemd.journald.forward_to_console=1",
            "systemd.show_status=no",
        ]
        self.boot()

    def boot(self) -> None:
        enter = ["/bin/sh", "-c", ENTER, "enter", *map(str, self._groups), "--", *booting_now()]
        with self.console_file.open("ab") as console, self._network.entered():
            self.process = subprocess.Popen(
                [*enter, *self._nspawn],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # a Ctrl-C is for the tests, which end it in order
            )

    @property
    def console_file(self) -> Path:
        return self.place / "console.log"

    @property
    def console(self) -> str:
        return self.console_file.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """As its cloud sees it: one that reboots runs."""
        return self.process.poll() is None or (self.keeps_disk and self.process.returncode == REBOOTS)

    @property
    def leader(self) -> int:
        """The process that is PID 1 inside."""
        children = wait_for(lambda: psutil.Process(self.process.pid).children(), 10, "PID 1 of the machine")
        return children[0].pid

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside, as root; what it prints."""
        inside = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--", *command]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
        if check:
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def press_power_button(self) -> None:
        """Ask it to power itself off, as a cloud does first."""
        self.process.terminate()

    def lose(self) -> None:
        """It is gone, as when its host dies: nothing in it has a chance to say so."""
        psutil.Process(self.leader).kill()


def booting_now() -> list[str]:
    """Its clocks count from its own boot, not from ours: timers and deadlines of units are told by them."""
    clocks = {"boottime": time.CLOCK_BOOTTIME, "monotonic": time.CLOCK_MONOTONIC}
    offsets = [word for name, clock in clocks.items() for word in (f"--{name}", str(-int(time.clock_gettime(clock))))]
    return ["unshare", "--time", *offsets]
