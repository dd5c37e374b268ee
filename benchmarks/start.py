"""How long after `tasks.enqueue` is sent the process of its agent exists, where an idle instance waits for work.

Beside it, on the same server, a stock `clearml-agent daemon` as it comes: it polls every 5 s. Both are measured at the
fork of their `clearml_agent execute`, as the kernel knows it; that process is then ended, because what the agent itself
does next is the same for both.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks import rig
from benchmarks.client import Client
from benchmarks.figures import line, spread
from benchmarks.processes import agent_of, created_at
from benchmarks.rig import Centre

GOAL_MS = 300.0
SAMPLES, PEER_SAMPLES = 24, 6
LONGEST_PAUSE_S = 1.0

FLEET_FILE = """\
listen: 127.0.0.1:0
agent: {mode: interpreter}
resources:
  gpu: {provider: local, gpus: 4, min_instances: 1, max_instances: 1, idle_timeout: never}
queues:
  train: {resources: [gpu], gpus: 1}
"""


def measure(is_quick: bool) -> Iterator[str]:
    count, peer_count = (2, 1) if is_quick else (SAMPLES, PEER_SAMPLES)
    with rig.directory() as place, rig.centre(place, FLEET_FILE) as centre, ThreadPoolExecutor() as beside:
        # At the same time, because a sample of the stock daemon is seconds of waiting.
        polls_every_s = 0.5 if is_quick else rig.STOCK_POLLS_EVERY_S
        peer_samples = beside.submit(_peer, place, centre, peer_count, polls_every_s)
        ours, to_claim = _ours(centre, count)
        theirs = peer_samples.result()
    figures, peer = spread(ours), spread(theirs)
    yield line(
        "start.enqueue_to_agent",
        figures["p50"],
        "ms",
        goal=GOAL_MS,
        peer=peer["p50"],
        peer_name=f"clearml-agent daemon, polling every {polls_every_s:g} s",
        peer_n=peer["n"],
        peer_p95=peer["p95"],
        **figures,
        to_claim_sent_p50=spread(to_claim)["p50"],
    )


def _ours(centre: Centre, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds to the agent, and to the moment at which its supervisor sends the claim."""
    client = Client(centre.access)
    queue = rig.queues(client, ["train"])["train"]
    instance = rig.wait_for("the instance is ready", lambda: next((i for i in centre.instances() if i.gpus), None))
    supervisor = centre.supervisor(instance.id)
    _sample(client, queue, supervisor)  # the first time, code is loaded
    samples, to_claim = [], []
    for _ in range(count):
        _wait_until_idle(centre, instance.id)
        time.sleep(random.uniform(0.0, LONGEST_PAUSE_S))
        task, sent_at, ms = _sample(client, queue, supervisor)
        samples.append(ms)
        to_claim.append(1000 * (_claimed_at(centre, task) - sent_at))
    return samples, to_claim


def _peer(place: Path, centre: Centre, count: int, polls_every_s: float) -> list[float]:
    """Milliseconds of the stock daemon, at moments spread evenly over its polling interval."""
    client = Client(centre.access)
    samples = []
    with rig.stock_daemon(place, centre.access, "stock", polls_every_s) as daemon:
        queue = rig.queues(client, ["stock"])["stock"]
        for number in random.sample(range(count), count):
            # It polls at once when a task has ended, then at its interval: without this all samples would wait equally long.
            time.sleep(polls_every_s * (number + 0.5) / count)
            samples.append(_sample(client, queue, daemon.pid)[2])
    return samples


def _sample(client: Client, queue: str, parent: int) -> tuple[str, float, float]:
    """The task, when its enqueuing was sent, and the milliseconds from then to its agent's fork."""
    task = rig.a_task(client)
    sent_at = time.time()
    client.call("tasks.enqueue", task=task, queue=queue)
    agent = rig.wait_for("the agent runs", lambda: agent_of(parent, task))
    ms = 1000 * (created_at(agent) - sent_at)
    with suppress(ProcessLookupError):
        os.kill(agent, signal.SIGKILL)
    _wait_for(lambda: not psutil.pid_exists(agent))
    _wait_for(lambda: client.call("tasks.get_by_id", task=task)["task"]["status"] == "failed")
    return task, sent_at, ms


def _wait_for(condition: Callable[[], bool]) -> None:
    rig.wait_for("the agent's end is known", condition)


def _wait_until_idle(centre: Centre, instance: str) -> None:
    def is_idle() -> bool:
        now = centre.store.instance(instance)
        return bool(now and now.idle_since and not now.allocations)

    rig.wait_for("the instance is idle", is_idle)


def _claimed_at(centre: Centre, task: str) -> float:
    run = rig.wait_for("the run is known", lambda: centre.run_of(task))
    return run.claimed_at.timestamp()
