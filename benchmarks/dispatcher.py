"""How long a pass takes that finds nothing to do: the price of watching a large fleet every two seconds.

The store is the real one, the cloud and the ClearML server are in memory: what they take is theirs, not the pass's.
Between two passes the heartbeats of two seconds arrive (each instance sends one every five), outside of the clock.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks import rig
from benchmarks.figures import line, spread
from benchmarks.fleets import T0, a_fleet, an_idle_instance
from fleet.database import Database
from fleet.dispatcher.parts import Parts, Policy
from fleet.dispatcher.passes import Dispatcher
from fleet.model import Budget, Instance, Snapshot
from fleet.providers.base import FirstBoot, LaunchOrder
from fleet.providers.fake import FakeCloud
from fleet.queues.memory import MemoryServer
from fleet.store.base import Store
from fleet.store.chronicle import ChronicledStore
from fleet.store.memory import MemoryStore
from fleet.store.sql import SqlStore

SIZES = (1_000, 5_000)
PASSES = 9
POLL_INTERVAL, HEARTBEATS = timedelta(seconds=2), timedelta(seconds=5)


@dataclass
class World:
    """A fleet in which every instance is idle and may stay so, and no task waits."""

    store: Store
    fleet: Snapshot
    instances: Sequence[Instance]
    at: datetime = T0
    dispatcher: Dispatcher = field(init=False)

    def __post_init__(self) -> None:
        resources = tuple(replace(r, idle_timeout=None) for r in self.fleet.resources)
        cloud, server, ids = FakeCloud(self.fleet.offers, now=self.now), MemoryServer(self.now), itertools.count()
        known = {r.name: r for r in resources}
        boot = FirstBoot(centre_url="http://centre", join_token="used up")
        cloud.launch(
            [
                LaunchOrder(instance=i.id, cluster="bench", resource=known[i.resource], offer=i.offer, first_boot=boot)
                for i in self.instances
            ]
        )
        self.store.record_intents(self.instances)
        policy = Policy(
            cluster="bench",
            resources=resources,
            queues=self.fleet.queues,
            budget=Budget(),
            centre_url="http://centre",
            server_url="http://server",
            server_kind="embedded",
        )
        parts = Parts(
            store=self.store,
            demand=server,
            providers={"fake": cloud},
            now=self.now,
            new_id=lambda: f"p{next(ids)}",
            join_secret=b"a secret",
        )
        self.dispatcher = Dispatcher(parts, policy, "bench")

    def now(self) -> datetime:
        return self.at

    def pass_once(self) -> float:
        """Milliseconds of one pass.

        Raises:
            RuntimeError: it found something to do.
        """
        started = time.perf_counter()
        made = self.dispatcher.run_pass()
        ms = 1000 * (time.perf_counter() - started)
        if made.actions:
            raise RuntimeError(f"a pass with nothing to do did {made.actions[0]}")
        return ms

    def time_passes(self, number: int) -> float:
        """The heartbeats between pass `number` and the next; milliseconds of each."""
        self.at += POLL_INTERVAL
        share = round(len(self.instances) * (POLL_INTERVAL / HEARTBEATS))
        some = list(itertools.islice(itertools.cycle(self.instances), number * share, (number + 1) * share))
        started = time.perf_counter()
        for instance in some:
            self.store.beat(
                instance.id,
                at=self.at,
                is_pulling=True,
                is_ending=False,
                reason=None,
                idle_since=instance.idle_since,
                allocations=(),
                runs=(),
                gpus=instance.gpus,
            )
        return 1000 * (time.perf_counter() - started) / len(some)


def measure(is_quick: bool) -> Iterator[str]:
    for size in (20,) if is_quick else SIZES:
        yield _line("memory", size, ChronicledStore(MemoryStore()))
        with rig.directory() as place:
            database = Database(f"sqlite:///{Path(place) / 'fleet.db'}")
            yield _line("sqlite", size, ChronicledStore(SqlStore(database)))
            database.close()


def _line(kind: str, size: int, store: Store) -> str:
    fleet = a_fleet(types=50, tasks=0, instances=0)
    offers = itertools.cycle(fleet.offers)
    world = World(store, fleet, [an_idle_instance(next(offers), n) for n in range(size)])
    world.pass_once()  # the first one reads everything anew
    passes, beats, cpu = [], [], []
    for number in range(PASSES):
        beats.append(world.time_passes(number))
        used = time.process_time()
        passes.append(world.pass_once())
        cpu.append(1000 * (time.process_time() - used))
    figures = spread(passes)
    return line(
        f"dispatcher.idle_pass_{size}_{kind}",
        figures["p50"],
        "ms",
        **figures,
        cpu_p50=spread(cpu)["p50"],
        ms_a_heartbeat_p50=spread(beats)["p50"],
    )
