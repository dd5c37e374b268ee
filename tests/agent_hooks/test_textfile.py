"""The file for Prometheus' textfile collector."""

import re
import stat
from pathlib import Path

import pytest

from agent_hooks.gpus import GpuReading
from agent_hooks.health import of_xid
from agent_hooks.host import HostReading
from agent_hooks.textfile import METRICS, render, write

HOST = HostReading(
    cpu_percent=12.5,
    memory_used_mib=2048,
    memory_free_mib=1024,
    disk_free_home_percent=40,
    network_rx_mib_per_s=1,
    network_tx_mib_per_s=0.5,
    disk_read_mib_per_s=0,
    disk_write_mib_per_s=2,
)
GPU = GpuReading(
    index=1, uuid="GPU-b", model='A "100"', memory_gib=40, util=50, memory_used_gib=1, temperature_c=61, power_w=215.5
)
LINE = re.compile(r'([a-z_]+)(\{([a-z]+="([^"\\]|\\.)*",?)+\})? [0-9.e+]+')


def test_readings_are_told_in_base_units():
    lines = render(HOST, [GPU], tasks=3).splitlines()
    of_gpu = '{gpu="1",uuid="GPU-b",model="A \\"100\\""}'
    assert "fleet_node_cpu_usage_ratio 0.125" in lines
    assert "fleet_node_memory_used_bytes 2147483648" in lines
    assert "fleet_node_network_transmit_bytes_per_second 524288" in lines
    assert "fleet_node_tasks 3" in lines
    assert f"fleet_gpu_utilization_ratio{of_gpu} 0.5" in lines
    assert f"fleet_gpu_memory_used_bytes{of_gpu} 1073741824" in lines
    assert f"fleet_gpu_power_watts{of_gpu} 215.5" in lines
    assert 'fleet_gpu_sick{uuid="GPU-b"} 0' in lines


def test_every_sample_follows_the_help_and_type_of_its_metric_and_none_is_told_twice():
    text = render(HOST, [GPU], [of_xid("GPU-b", 79), of_xid("GPU-b", 31)])
    seen = []
    for help_, type_ in re.findall(r"# HELP (\w+) .*\n# TYPE (\w+) gauge\n", text):
        assert help_ == type_
        seen.append(help_)
    assert seen == list(METRICS)
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in samples), samples
    assert len({line.rpartition(" ")[0] for line in samples}) == len(samples)


def test_a_gpu_that_was_lost_is_told_as_sick_though_nobody_reads_it_any_more():
    lines = render(HOST, [], [of_xid("GPU-b", 79)]).splitlines()
    assert 'fleet_gpu_sick{uuid="GPU-b"} 1' in lines
    assert 'fleet_gpu_finding{uuid="GPU-b",code="xid_79",severity="sick"} 1' in lines
    assert [line for line in lines if "power" in line] == []


def test_the_file_is_replaced_whole_and_readable_for_all(tmp_path: Path):
    path = tmp_path / "fleet.prom"
    write(path, HOST, [GPU])
    first = path.stat().st_ino
    write(path, HOST, [])
    assert path.stat().st_ino != first
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["fleet.prom"]
    assert path.read_text() == render(HOST, [])


def test_a_directory_that_is_not_there_is_an_error_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(OSError, match="No such file"):
        write(tmp_path / "none" / "fleet.prom", HOST, [])
    (tmp_path / "fleet.prom").mkdir()
    with pytest.raises(OSError, match="directory"):
        write(tmp_path / "fleet.prom", HOST, [])
    assert [p.name for p in tmp_path.iterdir()] == ["fleet.prom"]
