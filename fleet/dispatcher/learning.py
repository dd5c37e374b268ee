"""What the fleet has seen of its own tasks, for the planner: read from the store's runs, so that a restart forgets nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.model import Habits, Instance, Run
from fleet.planner.habits import Stay, learn
from fleet.planner.market import with_known_price
from fleet.store.base import Store

LOOK_EVERY = timedelta(minutes=10)
LOOK_BACK = timedelta(days=14)
MOST_STAYS = 2000  # the newest: habits change, and more teach little
# A run is heard of a heartbeat after its end; of a machine that was cut off, as long after it as that was.
REPORTED_WITHIN = timedelta(minutes=15)
LEARN_AT_LEAST = 20  # new stays before the first lesson
LEARN_AGAIN = 0.1  # of those that are known: so many new ones before the next


RunKey = tuple[str, str, datetime]


@dataclass(slots=True)
class Learner:
    """Gathers the runs that have ended, and learns from them now and then."""

    store: Store
    cluster: str
    habits: Habits = field(default_factory=Habits)
    stays: deque[Stay] = field(default_factory=lambda: deque(maxlen=MOST_STAYS))
    boots_s: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    looked_at: datetime | None = None
    fresh: int = 0
    seen: dict[RunKey, datetime] = field(default_factory=dict)  # when they ended: those that will be read again

    def look(self, at: datetime) -> Habits:
        """What is known now; looked up anew every LOOK_EVERY."""
        if self.looked_at is None or at - self.looked_at >= LOOK_EVERY:
            self._gather(self.looked_at or at - LOOK_BACK, at)
            self.looked_at = at  # only now: what a store that fails did not tell is asked for again
            if self.fresh >= max(LEARN_AT_LEAST, LEARN_AGAIN * len(self.stays)):
                self.fresh = 0
                self.habits = learn(tuple(self.stays), tuple(self.boots_s))
        return self.habits

    def _gather(self, since: datetime, at: datetime) -> None:
        store, cluster = self.store, self.cluster
        since_end, seen_from = since - REPORTED_WITHIN, at - REPORTED_WITHIN
        instances = {i.id: i for i in store.instances(cluster, gone_after=since_end)}
        for instance in instances.values():
            if instance.enrolled_at and instance.launched_at and since <= instance.enrolled_at < at:
                self.boots_s.append(max((instance.enrolled_at - instance.launched_at).total_seconds(), 0.0))
        ended = [r for r in store.runs(ended_after=since_end) if r.ended_at and _key(r) not in self.seen]
        self.seen = {key: end for key, end in self.seen.items() if end >= seen_from}
        self.seen |= {_key(r): r.ended_at for r in ended if r.ended_at and r.ended_at >= seen_from}
        ended.sort(key=lambda r: r.ended_at or at)
        for stay in _stays(ended, instances):
            self.stays.append(stay)
            self.fresh += 1


def _key(run: Run) -> RunKey:
    return run.task, run.instance, run.claimed_at


def _stays(runs: Iterable[Run], instances: dict[str, Instance]) -> Iterable[Stay]:
    for run in runs:
        instance = instances.get(run.instance)
        if instance is None or run.ended_at is None or not run.gpus or run.ended_at <= run.claimed_at:
            continue
        offer = with_known_price(instance.offer)
        yield Stay(
            kind=(offer.resource, offer.type),
            queue=run.queue,
            came_s=min(run.enqueued_at or run.claimed_at, run.claimed_at).timestamp(),
            began_s=run.claimed_at.timestamp(),
            ended_s=run.ended_at.timestamp(),
            machines=len(run.gpus) / max(offer.gpus, 1),
            usd_per_hour=offer.price_usd_per_hour or 0.0,
        )
