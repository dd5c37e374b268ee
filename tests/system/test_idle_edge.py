"""A supervisor that waits for months: it writes nothing, and it does not grow."""

import importlib.util
from datetime import timedelta

import psutil
import pytest

from fleet.queues.base import TaskStatus
from tests.folders import files_below
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("edge"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
]

WARM, MANY = 100, 600  # heartbeats; at the usual interval of 10 s the many are hours
MAY_GROW_KIB = 512


def test_hundreds_of_rounds_without_work_leave_no_line_no_file_no_thread_and_no_memory(machine, clearml):
    often = timedelta(milliseconds=5)
    here = machine(poll_interval=often, heartbeat_interval=often)
    task = clearml.submit("train", "true\n")  # its code is loaded before the counting begins
    assert clearml.ended(task) == TaskStatus.COMPLETED
    process = psutil.Process(here.process.pid)

    def after(beats: int) -> tuple[int, int, int, int]:
        target = len(here.centre.heartbeats) + beats
        wait_for(lambda: len(here.centre.heartbeats) >= target, 60, f"{beats} heartbeats")
        here.centre.heartbeats[:-1] = []
        return (
            len(here.log.read_text().splitlines()),
            len(list(files_below(here.directory))),
            process.num_threads(),
            process.num_fds(),
        )

    before = after(WARM)

    def grown_kib() -> float:
        memory_kib = process.memory_info().rss / 1024
        assert after(MANY) == before
        return process.memory_info().rss / 1024 - memory_kib

    # What leaks grows each time; on a busy machine what happens once a minute, and grows once, falls among them too.
    assert any(grown_kib() < MAY_GROW_KIB for _ in range(3))
