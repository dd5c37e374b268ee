"""What `on_shutdown` does with real machines when the dispatcher is told to end."""

from __future__ import annotations

import pytest

from fleet.model import InstanceState
from tests.system.ring import FLEET_FILE, MakeRing, Ring
from tests.system.test_cli import machines
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ring")]

FILE = FLEET_FILE.replace("cluster: ring\n", "cluster: ring\non_shutdown: HOW\n").replace(
    "max_instances: {max_instances}", "min_instances: 2, max_instances: {max_instances}"
)


def one_busy_and_one_idle(make_ring: MakeRing, how: str) -> tuple[Ring, str]:
    ring = make_ring(gpus=1, max_instances=2, idle="10m", file=FILE.replace("HOW", how)).start()
    task = ring.bash("echo started; sleep 6; echo finished")

    def is_so() -> bool:
        states = sorted(i.state for i in ring.instances())
        return states == [InstanceState.BUSY, InstanceState.READY] and "started" in ring.console(task)

    wait_for(is_so, 60, what="one machine works and one is idle")
    return ring, task


def test_idle_machines_end_with_the_dispatcher_and_no_work_is_lost(make_ring: MakeRing) -> None:
    ring, task = one_busy_and_one_idle(make_ring, "idle")
    assert ring.stop() == 0
    wait_for(lambda: len(machines(ring)) == 1, 20, what="the idle one ends by itself")
    ring.start()
    assert ring.ends(task) == ["completed"]
    assert len(ring.runs(task)) == 1
    ended = [i.end_reason.code for i in ring.instances() if i.end_reason]
    assert "shutdown" in ended


def test_all_machines_end_with_the_dispatcher_and_their_tasks_wait(make_ring: MakeRing) -> None:
    ring, task = one_busy_and_one_idle(make_ring, "all")
    assert ring.stop() == 0
    assert machines(ring) == []
    ring.start()
    assert ring.ends(task) == ["completed"]
    assert len(ring.runs(task)) == 2
