"""Many short tasks through one machine of eight GPUs: how long each takes, and whether anything is left of them.

What is left is counted on the supervisor once all is settled, against the same after a first round that loaded all code:
processes of its machine, its threads, its file descriptors, files below its directory, and its memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import TASKS, TASKS_VARIABLE, rig
from benchmarks.client import Client
from benchmarks.figures import line
from benchmarks.processes import descendants
from benchmarks.rig import Centre

FIRST_ROUND = 16
END_WITHIN_S = 5000.0
SETTLE_WITHIN_S = 100.0  # zombies of strangers are buried once a minute
KIB = 1024

FLEET_FILE = """\
listen: 127.0.0.1:0
agent: {mode: interpreter}
resources:
  gpu: {provider: local, gpus: 8, min_instances: 1, max_instances: 1, idle_timeout: never}
queues:
  train: {resources: [gpu], gpus: 1}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a supervisor holds when it has nothing to do."""

    processes: int
    threads: int
    descriptors: int
    files: int
    rss_kib: float


def measure(is_quick: bool) -> Iterator[str]:
    wanted = int(os.environ.get(TASKS_VARIABLE, TASKS))
    first, count = (2, 4) if is_quick else (FIRST_ROUND, wanted)
    with rig.directory() as place, rig.centre(place, FLEET_FILE) as centre:
        client = Client(centre.access)
        queue = rig.queues(client, ["train"])["train"]
        _round(client, queue, first)
        (instance,) = centre.instances()
        before = _left(centre, instance.id)
        started_at = time.monotonic()
        _round(client, queue, count)
        seconds = time.monotonic() - started_at
        after = rig.wait_for("nothing is left", lambda: _clean(centre, instance.id, before), SETTLE_WITHIN_S)
    yield line("churn.seconds_per_task", seconds / count, "s", n=count, wall_s=seconds, gpus=8)
    yield line(
        "churn.left",
        max(after.processes - before.processes, 0) + max(after.files - before.files, 0),
        "processes and files",
        goal=0.0,
        threads=after.threads - before.threads,
        descriptors=after.descriptors - before.descriptors,
        rss_kib_a_task=(after.rss_kib - before.rss_kib) / count,
    )


def _round(client: Client, queue: str, count: int) -> None:
    """So many tasks, to their end."""
    tasks = [rig.a_task(client) for _ in range(count)]
    for task in tasks:
        client.call("tasks.enqueue", task=task, queue=queue)

    def all_ended() -> bool:
        found = client.call("tasks.get_all", id=tasks, only_fields=["status"])["tasks"]
        return [task["status"] for task in found] == ["completed"] * count

    rig.wait_for("all tasks complete", all_ended, END_WITHIN_S, every_s=1.0)


def _clean(centre: Centre, instance: str, before: Left) -> Left | None:
    """What is left, once it is no more than before."""
    now = _left(centre, instance)
    grown = [now.processes > before.processes, now.threads > before.threads, now.files > before.files]
    return None if any(grown) or now.descriptors > before.descriptors else now


def _left(centre: Centre, instance: str) -> Left:
    machine, supervisor = centre.machine(instance), centre.supervisor(instance)
    process = psutil.Process(supervisor)
    work = Path(centre.state) / "local" / instance / "work"
    return Left(
        processes=sum(1 for _ in descendants(machine)),
        threads=process.num_threads(),
        descriptors=process.num_fds(),
        files=sum(len(files) for _, _, files in os.walk(work)),
        rss_kib=process.memory_info().rss / KIB,
    )
