"""What the ClearML server is told of a machine, beside what the stock agent tells it."""

import pytest

from agent_hooks.host import Host
from fleet.model import Gpu
from fleet.supervisor.stats import machine_stats

# What the open-source server has no chart for, or what only some machines have: a temperature of processors, parts by Kubernetes.
ONLY_THEIRS = {"cpu_temperature", "gpu_fraction"}
GPU = Gpu(index=0, uuid="GPU-0", model="A10", memory_gib=24, util=50, memory_used_gib=6, temperature_c=61, power_w=150)


def test_readings_have_the_names_that_the_stock_agent_gives_them() -> None:
    monitor = pytest.importorskip("clearml_agent.helper.resource_monitor")
    theirs = set(monitor.ResourceMonitor.BACKEND_STAT_MAP.values())
    assert set(machine_stats(Host().read(), (GPU,))) == theirs - ONLY_THEIRS


def test_gpus_are_lists_in_mib_and_per_cent_and_none_on_a_machine_without() -> None:
    host = Host().read()
    seen = machine_stats(host, (GPU, Gpu(index=1, uuid="GPU-1", model="A10", memory_gib=24)))
    assert seen["gpu_usage"] == [50, 0.0]
    assert seen["gpu_temperature"] == [61, 0.0]
    assert seen["gpu_memory_used"] == [6144, 0.0]
    assert seen["gpu_memory_free"] == [18432, 24576]
    assert seen["memory_free"] == round(host.memory_free_mib, 3)
    assert [name for name in machine_stats(host, ()) if name.startswith("gpu")] == []
