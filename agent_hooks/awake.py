"""What may keep an idle machine awake: people who are logged in, others' work on its GPUs, a file that somebody touched."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from agent_hooks.gpus import Gpus

KEEP_ALIVE = "/run/fleet/keep-alive"
SSH_PORT = 22
TCP_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
ESTABLISHED = "01"  # in those tables (include/net/tcp_states.h)
# A terminal of these is no open session: what was detached may be left for weeks.
DETACHED = ("tmux(", ":", "screen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Which of them count. None, or False: it does not."""

    ssh: bool = False
    gpu_percent: float | None = None  # of a GPU's time or memory, in use by processes that are not ours
    keep_alive_s: float | None = None  # so long after it was touched the file holds the machine
    file: Path = Path(KEEP_ALIVE)

    @property
    def is_any(self) -> bool:
        return self.ssh or self.gpu_percent is not None or self.keep_alive_s is not None


def why_awake(guards: Guards, gpus: Gpus) -> str | None:
    """What keeps this machine awake now, as one sentence; None: nothing. To be asked while no task of ours runs."""
    return next(_reasons(guards, gpus), None)


def _reasons(guards: Guards, gpus: Gpus) -> Iterator[str]:
    if guards.keep_alive_s is not None:
        yield from touched(guards.file, guards.keep_alive_s)
    if guards.ssh:
        yield from people()
    if guards.gpu_percent is not None:
        yield from gpu_users(gpus, guards.gpu_percent)


def touched(file: Path, keep_alive_s: float) -> Iterator[str]:
    """A person holds the machine by `touch`. One from further in the future than it could hold is a mistake, and does not count."""
    with contextlib.suppress(OSError):
        age_s = time.time() - file.stat().st_mtime
        if -keep_alive_s <= age_s < keep_alive_s:
            yield f"{file} was touched {max(age_s, 0):.0f} s ago and holds this machine for {keep_alive_s:.0f} s"


def people() -> Iterator[str]:
    """Sessions from elsewhere, and connections to the SSH server: not every system writes down its sessions."""
    for user in psutil.users():
        is_remote = user.host and not user.host.startswith(DETACHED)
        if is_remote and user.pid and psutil.pid_exists(int(user.pid)):
            yield f"{user.name} is logged in from {user.host}"
    if count := ssh_connections():
        yield f"{count} SSH connection{'' if count == 1 else 's'} open"


def ssh_connections(tables: tuple[str, ...] = TCP_TABLES, port: int = SSH_PORT) -> int:
    """Established ones to our own SSH port. The tables of the kernel tell it to everybody; whose they are, only to root."""
    count = 0
    for table in tables:
        with contextlib.suppress(OSError), open(table) as lines:
            next(lines, None)  # the heads of the columns
            for line in lines:
                _, local, _, state, *_ = line.split()
                count += state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port
    return count


def gpu_users(gpus: Gpus, percent: float) -> Iterator[str]:
    """GPUs that are busy, or whose memory is held, above the threshold."""
    readings = gpus.read()
    for gpu in readings:
        if gpu.util is not None and gpu.util >= percent:
            yield f"GPU {gpu.index} is {gpu.util:.0f} % busy, with no task of ours"
    memory = {gpu.uuid: (gpu.index, gpu.memory_gib) for gpu in readings}
    for process in gpus.processes():
        index, size_gib = memory.get(process.gpu, (None, 0.0))
        held_gib = process.memory_gib or 0.0  # what the driver does not tell is not held against anybody
        if process.pid != os.getpid() and size_gib and 100 * held_gib / size_gib >= percent:
            yield f"process {process.pid} holds {held_gib:.1f} GiB of GPU {index}"
