"""A network of its own: a bridge that machines are plugged into, with the address that clouds keep for metadata."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BRIDGE = "br0"
GATEWAY = "172.31.8.1"
METADATA = "169.254.169.254"
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """One network namespace. Outside of it nothing is changed: no address, no rule, no port."""

    def __init__(self, name: str) -> None:
        self.path = Path("/run/netns") / name
        subprocess.run(["ip", "netns", "add", name], check=True)
        with self.entered():
            for line in (
                "link set lo up",
                f"link add {BRIDGE} type bridge forward_delay 0",
                f"address add {GATEWAY}/24 dev {BRIDGE}",
                f"address add {METADATA}/32 dev {BRIDGE}",
                f"link set {BRIDGE} up",
            ):
                subprocess.run(["ip", *line.split()], check=True)

    def address(self, number: int) -> str:
        """Of the machine with this number, from 0."""
        return f"{GATEWAY.rpartition('.')[0]}.{10 + number}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread, and whatever thread or process it starts, is in this network."""
        with Path("/proc/thread-self/ns/net").open() as before, self.path.open() as inside:
            _setns(inside.fileno())
            try:
                yield
            finally:
                _setns(before.fileno())


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
