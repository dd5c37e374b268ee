"""What waiting for work costs on the machine that waits: a supervisor of eight GPUs beside eight stock daemons.

Each has run one task to its end before, and all are watched in the same window. A supervisor serves all GPUs of its
machine; of stock daemons there is one for each slot. The first process of a local instance is not counted: on a cloud
machine that is the system's own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from benchmarks import rig
from benchmarks.client import Client
from benchmarks.figures import line
from benchmarks.processes import Cost, cost
from benchmarks.proxy import Proxy, counting

GOAL_RSS_MIB, GOAL_CPU_PERCENT = 35.0, 0.3
SLOTS = 8
WINDOW_S = 40.0
SETTLE_S = 6.0  # the heartbeats and reports after a task are over, and the daemon is back at its interval
PEER = "%d x clearml-agent daemon"

FLEET_FILE = """\
listen: 127.0.0.1:%(port)d
server: {url: embedded, advertise_url: "http://127.0.0.1:%(proxy)d"}
advertise_url: http://127.0.0.1:%(proxy)d
agent: {mode: interpreter}
resources:
  gpu: {provider: local, gpus: 8, min_instances: 1, max_instances: 1, idle_timeout: never}
queues:
  train: {resources: [gpu], gpus: 1}
"""


def measure(is_quick: bool) -> Iterator[str]:
    window_s, polls_every_s, slots = (2.0, 0.5, 2) if is_quick else (WINDOW_S, rig.STOCK_POLLS_EVERY_S, SLOTS)
    names = [f"stock{number}" for number in range(slots)]
    with rig.directory() as place, counting() as proxy:
        port = proxy.target = rig.a_free_port()
        with rig.centre(place, FLEET_FILE % {"port": port, "proxy": proxy.port}) as centre, ExitStack() as daemons:
            client = Client(replace(centre.access, api_url=f"http://127.0.0.1:{port}"))
            pids = [
                daemons.enter_context(rig.stock_daemon(place, centre.access, name, polls_every_s, name)).pid
                for name in names
            ]
            for queue in rig.queues(client, ["train", *names]).values():
                rig.run_one(client, queue)
            (instance,) = centre.instances()
            supervisor = centre.supervisor(instance.id)
            time.sleep(0 if is_quick else SETTLE_S)
            before = _Look(supervisor, pids, proxy)
            time.sleep(window_s)
            after = _Look(supervisor, pids, proxy)
    yield from _figures(before, after, PEER % slots)


class _Look:
    """All of them, at one moment."""

    def __init__(self, supervisor: int, daemons: Sequence[int], proxy: Proxy) -> None:
        self.at = time.monotonic()
        self.ours, theirs = cost(supervisor), [cost(daemon) for daemon in daemons]
        self.their_rss_mib = sum(each.rss_mib for each in theirs)
        self.their_uss_mib = sum(each.uss_mib or 0.0 for each in theirs)
        self.their_cpu_s = sum(each.cpu_s for each in theirs)
        calls = proxy.calls.copy()
        self.our_calls = Counter({name: count for (pid, name), count in calls.items() if pid == supervisor})
        self.their_calls: Counter[str] = Counter()
        for (pid, name), count in calls.items():
            if pid in daemons:
                self.their_calls[name] += count


def _figures(before: _Look, after: _Look, peer: str) -> Iterator[str]:
    seconds = after.at - before.at
    ours = after.ours
    yield line(
        "idle.rss",
        ours.rss_mib,
        "MiB",
        goal=GOAL_RSS_MIB,
        peer=after.their_rss_mib,
        peer_name=peer,
        uss_mib=ours.uss_mib,
        peer_uss_mib=after.their_uss_mib,
        processes=ours.processes,
    )
    yield line(
        "idle.cpu",
        _cpu_percent(before.ours, ours, seconds),
        "% of a core",
        goal=GOAL_CPU_PERCENT,
        peer=100 * (after.their_cpu_s - before.their_cpu_s) / seconds,
        peer_name=peer,
        window_s=seconds,
    )
    our_calls, their_calls = after.our_calls - before.our_calls, after.their_calls - before.their_calls
    yield line(
        "idle.calls",
        our_calls.total() * 60 / seconds,
        "calls a minute",
        peer=their_calls.total() * 60 / seconds,
        peer_name=peer,
        by_endpoint=_per_minute(our_calls, seconds),
        peer_by_endpoint=_per_minute(their_calls, seconds),
    )


def _cpu_percent(before: Cost, after: Cost, seconds: float) -> float:
    return 100 * (after.cpu_s - before.cpu_s) / seconds


def _per_minute(calls: Mapping[str, int], seconds: float) -> dict[str, float]:
    return {name: round(count * 60 / seconds, 1) for name, count in sorted(calls.items())}
