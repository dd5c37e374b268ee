"""What single machines do, for Prometheus, in the units of their own textfile: a line for each instance, or each of its GPUs. Pure.

Only machines that are not gone have lines, so there are never more of them than the fleet is large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from fleet.model import Gpu, Instance, Vitals

MIB, GIB = 1024**2, 1024**3
MACHINE_LABELS, GPU_LABELS = ("instance",), ("instance", "gpu")

# Name: help, and how it is read; None: the machine does not say.
OF_MACHINE: Mapping[str, tuple[str, Callable[[Vitals], float]]] = {
    "fleet_instance_cpu_usage_ratio": (
        "Busy part of all processors of an instance together, 0 to 1.",
        lambda v: v.cpu_percent / 100,
    ),
    "fleet_instance_memory_used_bytes": ("Memory of an instance in use.", lambda v: v.memory_used_gib * GIB),
    "fleet_instance_memory_available_bytes": (
        "Memory that its programs can still get.",
        lambda v: v.memory_free_gib * GIB,
    ),
    "fleet_instance_disk_free_ratio": (
        "Free part of its disk with the home directory, 0 to 1.",
        lambda v: v.disk_free_percent / 100,
    ),
    "fleet_instance_disk_read_bytes_per_second": (
        "Read from its disks, on average of about half a minute.",
        lambda v: v.disk_read_mib_per_s * MIB,
    ),
    "fleet_instance_disk_write_bytes_per_second": (
        "Written to its disks, likewise.",
        lambda v: v.disk_write_mib_per_s * MIB,
    ),
    "fleet_instance_network_receive_bytes_per_second": (
        "Received from networks, likewise.",
        lambda v: v.network_rx_mib_per_s * MIB,
    ),
    "fleet_instance_network_transmit_bytes_per_second": (
        "Sent to networks, likewise.",
        lambda v: v.network_tx_mib_per_s * MIB,
    ),
}
OF_GPU: Mapping[str, tuple[str, Callable[[Gpu], float | None]]] = {
    "fleet_instance_gpu_utilization_ratio": (
        "Busy part of a GPU of an instance, 0 to 1; absent where its driver does not tell.",
        lambda g: None if g.util is None else g.util / 100,
    ),
    "fleet_instance_gpu_memory_used_bytes": (
        "Memory of a GPU in use.",
        lambda g: None if g.memory_used_gib is None else g.memory_used_gib * GIB,
    ),
    "fleet_instance_gpu_memory_total_bytes": ("Memory of a GPU.", lambda g: g.memory_gib * GIB),
    "fleet_instance_gpu_temperature_celsius": ("Temperature of a GPU.", lambda g: g.temperature_c),
    "fleet_instance_gpu_power_watts": ("Power that a GPU draws.", lambda g: g.power_w),
    "fleet_instance_gpu_sick": ("1: this GPU is out of service.", lambda g: float(g.sick is not None)),
}


def of_machines(instances: Sequence[Instance]) -> Iterator[Metric]:
    """As their last heartbeats say; what one does not say has no line."""
    heard = [instance for instance in instances if instance.heartbeat_at and not instance.gone_at]
    for name, (text, read) in OF_MACHINE.items():
        family = GaugeMetricFamily(name, text, labels=MACHINE_LABELS)
        for instance in heard:
            if instance.vitals:
                family.add_metric((instance.id,), read(instance.vitals))
        yield family
    for name, (text, look) in OF_GPU.items():
        family = GaugeMetricFamily(name, text, labels=GPU_LABELS)
        for instance in heard:
            for gpu in instance.gpus:
                if (number := look(gpu)) is not None:
                    family.add_metric((instance.id, str(gpu.index)), number)
        yield family
