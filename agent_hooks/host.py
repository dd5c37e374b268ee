"""The machine itself, by psutil: processors, memory, disk and network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    """The machine now; rates are averages since the reading before."""

    cpu_percent: float  # 0..100, of all processors together
    memory_used_mib: float
    memory_free_mib: float  # what programs can still get
    disk_free_home_percent: float
    network_rx_mib_per_s: float
    network_tx_mib_per_s: float
    disk_read_mib_per_s: float
    disk_write_mib_per_s: float


class Host:
    """Remembers the counters of the last reading, for the rates."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = str(home or Path.home())
        self._counters = _counters()
        self._read_at = time.monotonic()
        psutil.cpu_percent()  # the first answer of this call means nothing

    def read(self) -> HostReading:
        counters, at = _counters(), time.monotonic()
        elapsed = max(at - self._read_at, 1e-3)
        rates = [
            max(new - old, 0) / elapsed / MIB  # counters restart when a device goes away
            for new, old in zip(counters, self._counters, strict=True)
        ]
        self._counters, self._read_at = counters, at
        memory = psutil.virtual_memory()
        return HostReading(
            cpu_percent=psutil.cpu_percent(),
            memory_used_mib=memory.used / MIB,
            memory_free_mib=memory.available / MIB,
            disk_free_home_percent=100 - psutil.disk_usage(self._home).percent,
            network_rx_mib_per_s=rates[0],
            network_tx_mib_per_s=rates[1],
            disk_read_mib_per_s=rates[2],
            disk_write_mib_per_s=rates[3],
        )


def _counters() -> tuple[int, int, int, int]:
    net = psutil.net_io_counters()
    disk = psutil.disk_io_counters()  # None in containers without block devices
    return (
        net.bytes_recv if net else 0,
        net.bytes_sent if net else 0,
        disk.read_bytes if disk else 0,
        disk.write_bytes if disk else 0,
    )


def cpus() -> int:
    """How many processors this process may use."""
    return len(psutil.Process().cpu_affinity()) or 1


def memory_gib() -> float:
    return psutil.virtual_memory().total / 1024**3
