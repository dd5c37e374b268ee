"""The machine, by psutil."""

import psutil

from agent_hooks.host import Host, cpus, memory_gib
from agent_hooks.power import ExitProcess


def test_a_reading_is_within_what_is_possible():
    host = Host()
    reading = host.read()
    assert 0 <= reading.cpu_percent <= 100
    assert 0 <= reading.disk_free_home_percent <= 100
    total_mib = psutil.virtual_memory().total / 1024**2
    assert 0 < reading.memory_used_mib < total_mib
    assert 0 < reading.memory_free_mib <= total_mib
    rates = (reading.network_rx_mib_per_s, reading.network_tx_mib_per_s, reading.disk_read_mib_per_s)
    assert min(*rates, reading.disk_write_mib_per_s) >= 0


def test_a_machine_without_block_devices_has_no_disk_rates(monkeypatch):
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    reading = Host().read()
    assert (reading.disk_read_mib_per_s, reading.disk_write_mib_per_s) == (0, 0)


def test_the_size_of_the_machine():
    assert 1 <= cpus() <= (psutil.cpu_count() or 1)
    assert memory_gib() == psutil.virtual_memory().total / 1024**3


def test_a_local_machine_ends_with_its_process():
    assert ExitProcess().end() == 0
