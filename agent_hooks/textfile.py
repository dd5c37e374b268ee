"""Readings of this machine in Prometheus' text format, for the textfile collector of node_exporter.

Written whole or not at all: the collector must never read half a file. METRICS has every name with its help.
Source: prometheus.io/docs/instrumenting/exposition_formats, and node_exporter's README, "Textfile Collector".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agent_hooks.gpus import GpuReading
from agent_hooks.health import Finding, Severity
from agent_hooks.host import HostReading

GIB, MIB = 1024**3, 1024**2

METRICS = {
    "fleet_node_cpu_usage_ratio": "Busy part of all processors together, 0 to 1.",
    "fleet_node_memory_used_bytes": "Memory in use.",
    "fleet_node_memory_available_bytes": "Memory that programs can still get.",
    "fleet_node_disk_free_ratio": "Free part of the disk with the home directory, 0 to 1.",
    "fleet_node_disk_read_bytes_per_second": "Read from disks, on average since the last reading.",
    "fleet_node_disk_write_bytes_per_second": "Written to disks, likewise.",
    "fleet_node_network_receive_bytes_per_second": "Received from networks, likewise.",
    "fleet_node_network_transmit_bytes_per_second": "Sent to networks, likewise.",
    "fleet_node_tasks": "Tasks that hold something of this machine.",
    "fleet_gpu_utilization_ratio": "Busy part of a GPU, 0 to 1; absent where the driver does not tell.",
    "fleet_gpu_memory_used_bytes": "Memory of a GPU in use.",
    "fleet_gpu_memory_total_bytes": "Memory of a GPU.",
    "fleet_gpu_temperature_celsius": "Temperature of a GPU.",
    "fleet_gpu_power_watts": "Power that a GPU draws.",
    "fleet_gpu_sick": "1: nothing should compute on this GPU.",
    "fleet_gpu_finding": "What is wrong with a GPU, by the code and severity of the finding; always 1.",
}

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]


def write(
    path: Path, host: HostReading, gpus: Sequence[GpuReading], findings: Sequence[Finding] = (), tasks: int = 0
) -> None:
    """Replace the file by what holds now; readable for all, because the collector runs as somebody else.

    Raises:
        OSError: its directory is not there or not writable.
    """
    text = render(host, gpus, findings, tasks)
    # Hidden: the collector reads every *.prom of the directory.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644), "w") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask is
            file.write(text)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def render(host: HostReading, gpus: Sequence[GpuReading], findings: Sequence[Finding] = (), tasks: int = 0) -> str:
    """The text: each metric with its help and type, then its samples."""
    by_name: dict[str, list[Sample]] = {name: [] for name in METRICS}
    for sample in (*_of_host(host, tasks), *_of_gpus(gpus, findings)):
        by_name[sample[0]].append(sample)
    lines: list[str] = []
    for name, samples in by_name.items():
        if samples:
            lines += [f"# HELP {name} {METRICS[name]}", f"# TYPE {name} gauge", *map(_line, samples)]
    return "\n".join(lines) + "\n"


def _of_host(host: HostReading, tasks: int) -> Iterator[Sample]:
    values: Mapping[str, float] = {
        "cpu_usage_ratio": host.cpu_percent / 100,
        "memory_used_bytes": host.memory_used_mib * MIB,
        "memory_available_bytes": host.memory_free_mib * MIB,
        "disk_free_ratio": host.disk_free_home_percent / 100,
        "disk_read_bytes_per_second": host.disk_read_mib_per_s * MIB,
        "disk_write_bytes_per_second": host.disk_write_mib_per_s * MIB,
        "network_receive_bytes_per_second": host.network_rx_mib_per_s * MIB,
        "network_transmit_bytes_per_second": host.network_tx_mib_per_s * MIB,
        "tasks": tasks,
    }
    yield from ((f"fleet_node_{name}", (), value) for name, value in values.items())


def _of_gpus(gpus: Sequence[GpuReading], findings: Sequence[Finding]) -> Iterator[Sample]:
    sick = {finding.gpu for finding in findings if finding.severity is Severity.SICK}
    for gpu in gpus:
        of_gpu = (("gpu", str(gpu.index)), ("uuid", gpu.uuid), ("model", gpu.model))
        values = {
            "utilization_ratio": None if gpu.util is None else gpu.util / 100,
            "memory_used_bytes": None if gpu.memory_used_gib is None else gpu.memory_used_gib * GIB,
            "memory_total_bytes": gpu.memory_gib * GIB,
            "temperature_celsius": gpu.temperature_c,
            "power_watts": gpu.power_w,
        }
        yield from ((f"fleet_gpu_{name}", of_gpu, value) for name, value in values.items() if value is not None)
    # One that was lost is in no reading any more, and just then somebody wants to know.
    for uuid in dict.fromkeys([*(gpu.uuid for gpu in gpus), *sick]):
        yield "fleet_gpu_sick", (("uuid", uuid),), float(uuid in sick)
    for finding in findings:
        labels = (("uuid", finding.gpu), ("code", finding.code), ("severity", str(finding.severity)))
        yield "fleet_gpu_finding", labels, 1.0


def _line(sample: Sample) -> str:
    name, labels, value = sample
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{inner}}} {value:.10g}" if inner else f"{name} {value:.10g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
