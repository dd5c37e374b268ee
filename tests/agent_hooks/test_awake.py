"""What keeps an idle machine awake, with real files, a real connection, and the driver for tests."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from agent_hooks.awake import Guards, gpu_users, ssh_connections, why_awake
from agent_hooks.gpus import GpuProcess, GpuReading, SimulatedGpus

NO_GPUS = SimulatedGpus(())


class Driver(SimulatedGpus):
    """One GPU of 24 GiB that is so busy, and processes that hold so many GiB of it."""

    def __init__(self, util: float | None, *held_gib: float, pid: int = 4242) -> None:
        gpu = GpuReading(index=3, uuid="GPU-x", model="A10", memory_gib=24, util=util)
        super().__init__((gpu,))
        self._held = tuple(GpuProcess(gpu="GPU-x", pid=pid, memory_gib=gib) for gib in held_gib)

    def processes(self) -> tuple[GpuProcess, ...]:
        return self._held


def test_by_default_nothing_but_a_task_keeps_a_machine_awake():
    assert why_awake(Guards(), Driver(100.0, 20.0)) is None
    assert not Guards().is_any


def test_a_file_that_was_touched_holds_the_machine_until_it_is_too_old(tmp_path):
    file = tmp_path / "keep-alive"
    guards = Guards(keep_alive_s=3600, file=file)
    assert why_awake(guards, NO_GPUS) is None
    file.touch()
    assert why_awake(guards, NO_GPUS) == f"{file} was touched 0 s ago and holds this machine for 3600 s"
    for age_s, holds in ((3500, True), (3601, False), (-1800, True), (-90_000, False)):
        os.utime(file, (time.time() - age_s,) * 2)
        assert (why_awake(guards, NO_GPUS) is not None) is holds, age_s


def test_work_of_others_on_a_gpu_counts_from_the_threshold_on():
    guards = Guards(gpu_percent=5)
    assert why_awake(guards, Driver(4.0, 0.5)) is None
    assert why_awake(guards, Driver(5.0)) == "GPU 3 is 5 % busy, with no task of ours"
    assert why_awake(guards, Driver(None, 0.1, 12.0)) == "process 4242 holds 12.0 GiB of GPU 3"
    assert list(gpu_users(Driver(0.0, 12.0, pid=os.getpid()), 5)) == []  # ours, while it looks


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_to_the_ssh_server_counts_while_it_is_open(family, host):
    with socket.socket(family) as server:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} here")
        server.listen()
        port = server.getsockname()[1]
        assert ssh_connections(port=port) == 0  # one that listens is no visitor
        with socket.create_connection((host, port)) as visitor, server.accept()[0]:
            assert ssh_connections(port=port) == 1
            assert visitor.fileno() > 0


def test_sessions_are_told_by_their_names_and_lasting_tables_are_not_needed(tmp_path):
    said = why_awake(Guards(ssh=True), NO_GPUS)  # None on a machine that nobody looks at
    assert said is None or "logged in from" in said or "SSH connection" in said
    assert ssh_connections(tables=(str(tmp_path / "none"),)) == 0


def test_the_table_of_the_kernel_is_read_as_it_is_written(tmp_path: Path):
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0\n"
        "   1: 0100000A:0016 0200000A:D431 01 00000000:00000000 02:000A7D8C 00000000     0        0 2 2 0\n"
        "   2: 0100000A:D432 0200000A:0016 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0\n"
    )
    assert ssh_connections(tables=(str(table),)) == 1
