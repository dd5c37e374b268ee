"""A dispatcher in a world of memory: the real passes on a fake cloud, an in-memory ClearML server, and a clock to turn."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.dispatcher.clock import SteadyClock
from fleet.dispatcher.launching import join_token
from fleet.dispatcher.parts import Parts, Policy
from fleet.dispatcher.passes import Dispatcher
from fleet.model import Allocation, Budget, Instance, Queue, Resource, Run
from fleet.providers.fake import FakeCloud
from fleet.queues.memory import MemoryServer
from fleet.store.chronicle import ChronicledStore
from fleet.store.memory import MemoryStore
from tests.builders import T0, a_queue, a_resource, an_offer, some_gpus

SECRET = b"a secret of this test"


@dataclass
class World:
    """Everything but the dispatcher outlives it: `restart` is what kill -9 and a new start leave."""

    resources: tuple[Resource, ...] = (a_resource(),)
    queues: tuple[Queue, ...] = (a_queue(),)
    budget: Budget = field(default_factory=Budget)
    list_lag: timedelta = timedelta(0)
    at: datetime = T0
    announced: int = 0
    off: timedelta = timedelta(0)  # of the clock of the dispatcher's host
    store: ChronicledStore = field(init=False)
    cloud: FakeCloud = field(init=False)
    server: MemoryServer = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    clock: SteadyClock = field(init=False)
    _ids: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        offers = [an_offer(r.name) for r in self.resources]
        self.store = ChronicledStore(MemoryStore())
        self.cloud = FakeCloud(offers, now=self.now, list_lag=self.list_lag)
        self.server = MemoryServer(self.now)
        self.restart()

    def now(self) -> datetime:
        return self.at

    def restart(self, holder: str = "dispatcher") -> None:
        def since_start_s() -> float:
            return (self.at - T0).total_seconds()

        self.clock = SteadyClock(lambda: self.at + self.off, since_start_s, since_start_s)
        policy = Policy(
            cluster="test",
            resources=self.resources,
            queues=self.queues,
            budget=self.budget,
            centre_url="http://centre",
            server_url="http://server",
            server_kind="embedded",
        )
        parts = Parts(
            store=self.store,
            demand=self.server,
            providers={"fake": self.cloud},
            now=self.clock,
            woken_at=self.clock.woken_at,
            new_id=lambda: f"p{next(self._ids)}",
            join_secret=SECRET,
            announce=self._announce,
        )
        self.dispatcher = Dispatcher(parts, policy, holder)

    def _announce(self) -> None:
        self.announced += 1

    def after(self, seconds: float) -> World:
        self.at += timedelta(seconds=seconds)
        return self

    def pass_once(self) -> World:
        self.dispatcher.run_pass()
        return self

    def enqueue(self, *names: str, queue: str = "train") -> list[str]:
        self.server.ensure_queues([q.name for q in self.queues])
        ids = [self.server.add(name) for name in names]
        for task in ids:
            self.server.enqueue(task, queue)
        return ids

    def instances(self) -> tuple[Instance, ...]:
        return self.store.instances("test")

    def instance(self) -> Instance:
        (only,) = self.instances()
        return only

    def enroll(self, instance: Instance, gpus: int = 4) -> Instance:
        """Its supervisor presents the token that its first boot was given."""
        token = self.cloud.machines[f"fake-{instance.id}"].order.first_boot.join_token
        assert token == join_token(SECRET, instance.id)
        join_hash = hashlib.sha256(token.encode()).hexdigest()
        enrolled = self.store.enroll(instance.id, join_hash, "t" + instance.id, "host", some_gpus(gpus), self.clock())
        assert enrolled
        return enrolled

    def run(self, instance: Instance, task: str, **beat: object) -> Run:
        """Its supervisor claims a task and says so in a heartbeat."""
        (waiting,) = [t for t in self.server.waiting(self.queues) if t.id == task]
        assert self.server.claim(waiting)
        self.server.started(task, "w1", "a test")
        gpus = (instance.gpus[0].uuid,)
        run = Run(
            task=task,
            instance=instance.id,
            queue="train",
            worker="w1",
            gpus=gpus,
            claimed_at=self.at,
            started_at=self.at,
        )
        held = Allocation(task=task, queue="train", worker="w1", gpus=gpus, started_at=self.at)
        self.beat(instance, allocations=(held,), runs=(run,))
        return run

    def beat(
        self,
        instance: Instance,
        allocations: tuple[Allocation, ...] = (),
        runs: tuple[Run, ...] = (),
        is_ending: bool = False,
    ) -> Instance:
        return self.store.beat(
            instance.id,
            at=self.clock(),
            is_pulling=not is_ending,
            is_ending=is_ending,
            reason=None,
            idle_since=None if allocations else self.at,
            allocations=allocations,
            runs=runs,
            gpus=instance.gpus,
        )

    def kinds(self) -> list[str]:
        return [e.kind for e in self.store.events()]


Step = Callable[[World], object]
