"""Readings of the machine under ClearML's own names, and as our nouns."""

from __future__ import annotations

from collections.abc import Sequence

from agent_hooks.gpus import GpuReading
from agent_hooks.host import HostReading
from fleet.model import Gpu, Vitals

MIB_PER_GIB = 1024


def gpus_of(readings: Sequence[GpuReading]) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(
            index=r.index,
            uuid=r.uuid,
            model=r.model,
            memory_gib=r.memory_gib,
            util=r.util,
            memory_used_gib=r.memory_used_gib,
            temperature_c=r.temperature_c,
            parent=r.parent,
            power_w=r.power_w,
        )
        for r in readings
    )


def vitals_of(host: HostReading) -> Vitals:
    """The machine itself, for the dispatcher."""
    return Vitals(
        cpu_percent=host.cpu_percent,
        memory_used_gib=host.memory_used_mib / MIB_PER_GIB,
        memory_free_gib=host.memory_free_mib / MIB_PER_GIB,
        disk_free_percent=host.disk_free_home_percent,
        disk_read_mib_per_s=host.disk_read_mib_per_s,
        disk_write_mib_per_s=host.disk_write_mib_per_s,
        network_rx_mib_per_s=host.network_rx_mib_per_s,
        network_tx_mib_per_s=host.network_tx_mib_per_s,
    )


def machine_stats(host: HostReading, gpus: Sequence[Gpu]) -> dict[str, object]:
    """As the stock agent reports them: MB, MB/s, per cent; GPUs as lists, only those of the worker."""
    stats: dict[str, object] = {
        "cpu_usage": [round(host.cpu_percent, 3)],
        "memory_used": round(host.memory_used_mib, 3),
        "memory_free": round(host.memory_free_mib, 3),
        "disk_free_home": round(host.disk_free_home_percent, 3),
        "network_rx": round(host.network_rx_mib_per_s, 3),
        "network_tx": round(host.network_tx_mib_per_s, 3),
        "disk_read": round(host.disk_read_mib_per_s, 3),
        "disk_write": round(host.disk_write_mib_per_s, 3),
    }
    if gpus:
        stats["gpu_usage"] = [gpu.util or 0.0 for gpu in gpus]
        stats["gpu_temperature"] = [gpu.temperature_c or 0.0 for gpu in gpus]
        used = [gpu.memory_used_gib or 0.0 for gpu in gpus]
        stats["gpu_memory_used"] = [round(gib * MIB_PER_GIB, 3) for gib in used]
        stats["gpu_memory_free"] = [
            round((gpu.memory_gib - gib) * MIB_PER_GIB, 3) for gpu, gib in zip(gpus, used, strict=True)
        ]
    return stats
