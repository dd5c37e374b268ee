"""What the fleet has seen of its own tasks, for the planner: read from the store's runs, so that a restart forgets nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil

from fleet.model import Habits, Instance, Run
from fleet.planner.habits import Stay, learn
from fleet.planner.market import with_known_price
from fleet.store.base import Store

LOOK_EVERY = timedelta(minutes=10)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
    wait_usd_per_hour: float | None = None  # as the fleet file says, if it does
    habits: Habits = field(default_factory=Habits)
    stays: deque[Stay] = field(default_factory=lambda: deque(maxlen=MOST_STAYS))
    boots_s: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    looked_at: datetime | None = None
    heard: int = 0  # stays so far, all of them
    fresh: int = 0  # that nothing was learned from yet
    seen: dict[RunKey, datetime] = field(default_factory=dict)  # when they ended: those that will be read again

    def look(self, at: datetime) -> Habits:
        """What is known now; looked up anew every LOOK_EVERY, at the same times of day whenever the passes are."""
        edge = _edge(at)
        if self.looked_at is None or edge > self.looked_at:
            is_first = self.looked_at is None
            fresh = self._gather(self.looked_at or edge - LOOK_BACK, edge)
            self.looked_at = edge  # only now: what a store that fails did not tell is asked for again
            self._learn_from(fresh, is_first=is_first)
        return self.habits

    def lesson_at(self, ended: int, at: datetime) -> datetime | None:
        """When a look would teach something new, once so many stays have ended by now; None: too few of them are new."""
        fresh = ended - (self.heard - self.fresh)
        return _edge(at) + LOOK_EVERY if fresh >= enough(min(ended, MOST_STAYS)) else None

    def _learn_from(self, fresh: Sequence[tuple[datetime, Stay]], *, is_first: bool) -> None:
        """As if there had been a look at each edge: who passes seldom learns the same as who passes often. The first look is one."""
        lesson: tuple[Stay, ...] | None = None
        for place, (ended_at, stay) in enumerate(fresh):
            self.stays.append(stay)
            self.heard, self.fresh = self.heard + 1, self.fresh + 1
            is_last = place + 1 == len(fresh) or (not is_first and _edge(fresh[place + 1][0]) > _edge(ended_at))
            if is_last and self.fresh >= enough(len(self.stays)):
                self.fresh, lesson = 0, tuple(self.stays)
        if lesson:
            self.habits = learn(lesson, tuple(self.boots_s), self.wait_usd_per_hour)

    def _gather(self, since: datetime, at: datetime) -> list[tuple[datetime, Stay]]:
        store, cluster = self.store, self.cluster
        since_end, seen_from = since - REPORTED_WITHIN, at - REPORTED_WITHIN
        instances = {i.id: i for i in store.instances(cluster, gone_after=since_end)}
        for instance in instances.values():
            if instance.enrolled_at and instance.launched_at and since <= instance.enrolled_at < at:
                self.boots_s.append(max((instance.enrolled_at - instance.launched_at).total_seconds(), 0.0))
        runs = store.runs(ended_after=since_end)
        ended = [r for r in runs if r.ended_at and r.ended_at < at and _key(r) not in self.seen]
        self.seen = {key: end for key, end in self.seen.items() if end >= seen_from}
        self.seen |= {_key(r): r.ended_at for r in ended if r.ended_at and r.ended_at >= seen_from}
        ended.sort(key=lambda r: (r.ended_at or at, r.task))
        return list(_stays(ended, instances))


def enough(stays: int) -> int:
    """So many new ones among so many are worth a lesson."""
    return max(LEARN_AT_LEAST, ceil(LEARN_AGAIN * stays))


def _edge(at: datetime) -> datetime:
    """The last time to look that is not after this."""
    return at - (at - EPOCH) % LOOK_EVERY


def _key(run: Run) -> RunKey:
    return run.task, run.instance, run.claimed_at


def _stays(runs: Iterable[Run], instances: dict[str, Instance]) -> Iterable[tuple[datetime, Stay]]:
    """With when they ended."""
    for run in runs:
        instance = instances.get(run.instance)
        if instance is None or run.ended_at is None or not run.gpus or run.ended_at <= run.claimed_at:
            continue
        offer = with_known_price(instance.offer)
        stay = Stay(
            kind=(offer.resource, offer.type),
            queue=run.queue,
            came_s=min(run.enqueued_at or run.claimed_at, run.claimed_at).timestamp(),
            began_s=run.claimed_at.timestamp(),
            ended_s=run.ended_at.timestamp(),
            machines=len(run.gpus) / max(offer.gpus, 1),
            usd_per_hour=offer.price_usd_per_hour or 0.0,
        )
        yield run.ended_at, stay
