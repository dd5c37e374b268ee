"""What waiting for work costs on the machine that waits: a supervisor of four GPUs beside a stock daemon.

Both have run one task to its end before, and are watched in the same window. A supervisor serves all GPUs of its
machine; of stock daemons there is one for each slot. The first process of a local instance is not counted: on a cloud
machine that is the system's own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from benchmarks import rig
from benchmarks.client import Client
from benchmarks.figures import line
from benchmarks.processes import Cost, cost
from benchmarks.proxy import Proxy, counting

GOAL_RSS_MIB, GOAL_CPU_PERCENT = 35.0, 0.5
WINDOW_S = 40.0
SETTLE_S = 6.0  # the heartbeats and reports after a task are over, and the daemon is back at its interval
PEER = "clearml-agent daemon (one slot)"

FLEET_FILE = """\
listen: 127.0.0.1:%(port)d
server: {url: embedded, advertise_url: "http://127.0.0.1:%(proxy)d"}
advertise_url: http://127.0.0.1:%(proxy)d
agent: {mode: interpreter}
resources:
  gpu: {provider: local, gpus: 4, min_instances: 1, max_instances: 1, idle_timeout: never}
queues:
  train: {resources: [gpu], gpus: 1}
"""


def measure(is_quick: bool) -> Iterator[str]:
    window_s, polls_every_s = (2.0, 0.5) if is_quick else (WINDOW_S, rig.STOCK_POLLS_EVERY_S)
    with rig.directory() as place, counting() as proxy:
        port = proxy.target = rig.a_free_port()
        with rig.centre(place, FLEET_FILE % {"port": port, "proxy": proxy.port}) as centre:
            client = Client(replace(centre.access, api_url=f"http://127.0.0.1:{port}"))
            with rig.stock_daemon(place, centre.access, "stock", polls_every_s) as daemon:
                for queue in rig.queues(client, ["train", "stock"]).values():
                    rig.run_one(client, queue)
                (instance,) = centre.instances()
                supervisor = centre.supervisor(instance.id)
                time.sleep(0 if is_quick else SETTLE_S)
                before = _Look(supervisor, daemon.pid, proxy)
                time.sleep(window_s)
                after = _Look(supervisor, daemon.pid, proxy)
    yield from _figures(before, after)


class _Look:
    """Both, at one moment."""

    def __init__(self, supervisor: int, daemon: int, proxy: Proxy) -> None:
        self.at = time.monotonic()
        self.ours, self.theirs = cost(supervisor), cost(daemon)
        calls = proxy.calls.copy()
        self.our_calls = Counter({name: count for (pid, name), count in calls.items() if pid == supervisor})
        self.their_calls = Counter({name: count for (pid, name), count in calls.items() if pid == daemon})


def _figures(before: _Look, after: _Look) -> Iterator[str]:
    seconds = after.at - before.at
    ours, theirs = after.ours, after.theirs
    yield line(
        "idle.rss",
        ours.rss_mib,
        "MiB",
        goal=GOAL_RSS_MIB,
        peer=theirs.rss_mib,
        peer_name=PEER,
        uss_mib=ours.uss_mib,
        peer_uss_mib=theirs.uss_mib,
        processes=ours.processes,
        peer_for_4_slots=4 * theirs.rss_mib,
    )
    yield line(
        "idle.cpu",
        _cpu_percent(before.ours, ours, seconds),
        "% of a core",
        goal=GOAL_CPU_PERCENT,
        peer=_cpu_percent(before.theirs, theirs, seconds),
        peer_name=PEER,
        window_s=seconds,
    )
    our_calls, their_calls = after.our_calls - before.our_calls, after.their_calls - before.their_calls
    yield line(
        "idle.calls",
        our_calls.total() * 60 / seconds,
        "calls a minute",
        peer=their_calls.total() * 60 / seconds,
        peer_name=PEER,
        peer_for_4_slots=4 * their_calls.total() * 60 / seconds,
        by_endpoint=_per_minute(our_calls, seconds),
        peer_by_endpoint=_per_minute(their_calls, seconds),
    )


def _cpu_percent(before: Cost, after: Cost, seconds: float) -> float:
    return 100 * (after.cpu_s - before.cpu_s) / seconds


def _per_minute(calls: Mapping[str, int], seconds: float) -> dict[str, float]:
    return {name: round(count * 60 / seconds, 1) for name, count in sorted(calls.items())}
