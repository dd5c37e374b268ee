"""Killed dispatchers and killed machines while tasks run: none is lost, none runs twice at once, nothing is left behind."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tests.system.ring import Ring
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("chaos")]

TASKS = 10
SCRIPT = """\
echo "$FLEET_TASK_ID start $(date +%s%N)" >> {stamps}
for i in $(seq 20); do sleep 0.1; echo "$FLEET_TASK_ID alive $(date +%s%N)" >> {stamps}; done
echo "$FLEET_TASK_ID end $(date +%s%N)" >> {stamps}
"""


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    made = Ring(tmp_path, gpus=2, max_instances=2, idle="2s").start()
    yield made
    made.close()


def machines(ring: Ring) -> list[psutil.Process]:
    """First processes of the instances that live."""
    found = []
    for file in (ring.state / "local").glob("*/machine.json"):
        try:
            process = psutil.Process(json.loads(file.read_text())["pid"])
            if str(file.parent) in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def lives(stamps: Path) -> dict[str, list[list[tuple[str, int]]]]:
    """By task: its attempts, each a list of (word, time) from a start on."""
    found: dict[str, list[list[tuple[str, int]]]] = defaultdict(list)
    for line in stamps.read_text().splitlines():
        task, word, at = line.split()
        if word == "start":
            found[task].append([])
        found[task][-1].append((word, int(at)))
    return found


def test_no_task_is_lost_and_none_runs_twice_at_once(ring: Ring, tmp_path: Path) -> None:
    stamps = tmp_path / "stamps"
    stamps.touch()
    chance = random.Random(7)
    tasks = [ring.bash(SCRIPT.format(stamps=stamps)) for _ in range(TASKS)]
    for seen in (2, 4, 6):
        wait_for(lambda seen=seen: len(lives(stamps)) >= seen, 60, what=f"{seen} tasks began")  # type: ignore[misc]
        if seen == 4:
            chance.choice(wait_for(lambda: machines(ring))).kill()
        else:
            ring.kill()
            ring.start()
    assert ring.ends(*tasks, timeout_s=180) == ["completed"] * TASKS
    wait_for(lambda: all(i.gone_at for i in ring.instances()), what="all machines go")
    assert machines(ring) == []
    for task, attempts in lives(stamps).items():
        assert attempts[-1][-1][0] == "end", task
        # A second attempt begins when nothing of the first is alive any more. (The first may have come to its last line:
        # a machine can die before it has told anybody.)
        for earlier, later in pairwise(attempts):
            assert earlier[-1][1] < later[0][1], task
    assert len(ring.instances()) <= 4
