"""The memory in memory: for tests and the simulator. No I/O; what is gone is out of the way of what lives.

Its verbs are those of `fleet.store.base`; what they do to an instance is told in `fleet.store.life`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from operator import attrgetter

from fleet.errors import StoreError
from fleet.model import Allocation, Event, Gpu, Instance, Offer, Reason, Run, Spent, Standing, Turns, View, Vitals
from fleet.store import life
from fleet.store.base import Bearer
from fleet.store.forgetting import RunKey, forget_runs
from fleet.store.tokens import Tokens

_BY_CLAIM = attrgetter("claimed_at", "task", "instance")


class MemoryStore:
    """Fulfils `fleet.store.base.Store`; safe to use from many threads, forgets all when the process ends."""

    def __init__(self, on_change: life.OnChange = life.ignore_change) -> None:
        """Empty. See `life.OnChange` for what `on_change` hears."""
        self._lock = threading.RLock()
        self._on_change = on_change
        self._leads: dict[str, tuple[str, datetime]] = {}
        self._all: dict[str, Instance] = {}
        self._live: dict[str, dict[str, Instance]] = defaultdict(
            dict
        )  # cluster -> those that are not gone, oldest first
        self._gone: dict[str, _Ledger] = defaultdict(_Ledger)
        self._joins: dict[str, tuple[str, datetime]] = {}  # hash -> instance, expires_at
        self._joined_by: dict[str, str] = {}
        self._tokens = Tokens()
        self._runs: dict[RunKey, Run] = {}
        self._runs_by_task: dict[str, dict[RunKey, None]] = defaultdict(dict)
        self._runs_by_instance: dict[str, dict[RunKey, None]] = defaultdict(dict)
        self._running: dict[RunKey, None] = {}
        self._ended: list[tuple[datetime, RunKey]] = []  # by the time of their end
        self._events: list[Event] = []
        self._last_seq = 0
        self._view: View | None = None
        self._turns = Turns()

    # --- the dispatcher's verbs

    def take_lead(self, cluster: str, holder: str, at: datetime, until: datetime) -> bool:
        with self._lock:
            now_holder, now_until = self._leads.get(cluster, (holder, at))
            if now_holder != holder and now_until > at:
                return False
            self._leads[cluster] = (holder, until)
            return True

    def give_up_lead(self, cluster: str, holder: str) -> None:
        with self._lock:
            if self._leads.get(cluster, ("", None))[0] == holder:
                del self._leads[cluster]

    def record_intents(self, instances: Sequence[Instance]) -> None:
        with self._lock:
            for instance in sorted(instances, key=_age):
                if instance.id not in self._all:
                    self._add(instance)

    def note_launched(self, instance: str, cloud_id: str, at: datetime, offer: Offer | None = None) -> None:
        self._change(instance, lambda i: life.launched(i, cloud_id, at, offer))

    def request_drain(self, instance: str, reason: Reason, at: datetime, by: datetime | None = None) -> None:
        self._order(instance, lambda i: life.draining(i, reason, at, by))

    def cancel_drain(self, instance: str, reason: Reason, at: datetime) -> None:
        self._order(instance, life.undrained)

    def stand(self, standings: Sequence[tuple[str, Standing]]) -> None:
        with self._lock:
            for instance, _ in standings:
                self._known(instance)  # all or none, as in a database
            for instance, wanted in standings:
                self._change(instance, partial(life.standing, wanted=wanted))

    def request_terminate(self, instance: str, reason: Reason, at: datetime) -> None:
        self._order(instance, lambda i: life.terminating(i, reason, at))

    def note_gone(self, instance: str, reason: Reason, at: datetime) -> None:
        self._change(instance, lambda i: life.gone(i, reason, at))

    def close_run(self, run: Run) -> None:
        with self._lock:
            self._known(run.instance)
            has_ended = self._keep_runs([run])
        if has_ended:
            self._on_change("runs_ended")

    def remember_view(self, view: View) -> None:
        self._view = view

    def remember_turns(self, turns: Turns) -> None:
        before, self._turns = self._turns, turns
        if life.is_told_at_once(before, turns):
            self._on_change("turns")

    def forget_events(self, before: datetime) -> int:
        with self._lock:
            kept = [event for event in self._events if event.at >= before]
            count = len(self._events) - len(kept)
            self._events = kept
            return count

    def forget_runs(self, before: datetime) -> int:
        with self._lock:
            self._joins = {key: join for key, join in self._joins.items() if join[1] >= before}
            return forget_runs(self._runs, self._ended, self._runs_by_task, self._runs_by_instance, before)

    # --- the edge's verbs

    def expect(self, instance: str, join_hash: str, expires_at: datetime) -> None:
        with self._lock:
            self._known(instance)
            self._joins.setdefault(join_hash, (instance, expires_at))

    def enroll(
        self,
        instance: str,
        join_hash: str,
        token_hash: str,
        hostname: str,
        gpus: Sequence[Gpu],
        at: datetime,
        renews: bool = False,
    ) -> Instance | None:
        with self._lock:
            before = self._all.get(instance)
            expected, expires_at = self._joins.get(join_hash, ("", at))
            if before is None or expected != instance or expires_at <= at:
                return None
            if not life.may_enroll(before, join_hash, self._joined_by.get(instance)):
                return None
            self._joined_by[instance] = join_hash
            self._tokens.issue(instance, token_hash, at if renews else None)
            after = self._replace(before, life.enrolled(before, hostname, gpus, at))
        self._on_change("enrolled")
        return after

    def who(self, token_hash: str) -> Bearer | None:
        with self._lock:
            instance = self._all.get(self._tokens.owner(token_hash) or "")
            if instance is None or instance.gone_at:
                return None
            held = self._tokens.of(instance.id)
        is_successor = held.successor == token_hash
        issued_at = held.successor_at if is_successor else held.issued_at
        return Bearer(instance=instance, issued_at=issued_at, is_successor=is_successor)

    def offer(self, token_hash: str, successor_hash: str, at: datetime) -> bool:
        with self._lock:
            return self._tokens.offer(token_hash, successor_hash, at)

    def take_up(self, token_hash: str) -> None:
        with self._lock:
            self._tokens.take_up(token_hash)

    def beat(
        self,
        instance: str,
        *,
        at: datetime,
        is_pulling: bool,
        is_ending: bool,
        reason: Reason | None,
        idle_since: datetime | None,
        allocations: Sequence[Allocation],
        runs: Sequence[Run],
        gpus: Sequence[Gpu],
        vitals: Vitals | None = None,
        unsettled: Sequence[str] = (),
    ) -> Instance:
        with self._lock:
            before = self._known(instance)
            after = life.heard(
                before,
                at=at,
                is_pulling=is_pulling,
                is_ending=is_ending,
                reason=reason,
                idle_since=idle_since,
                allocations=allocations,
                gpus=gpus,
                vitals=vitals,
                unsettled=unsettled,
            )
            self._replace(before, after)
            has_ended = self._keep_runs(life.runs_of(before, after, at, runs))
        for kind in life.changes_of_beat(before, after, has_ended):
            self._on_change(kind)
        return after

    # --- everybody's verbs

    def instances(self, cluster: str, gone_after: datetime | None = None) -> tuple[Instance, ...]:
        with self._lock:
            live = tuple(self._live[cluster].values())
            if gone_after is None:
                return live
            gone = [self._all[name] for name in self._gone[cluster].since(gone_after)]
        if not gone:
            return live
        return tuple(sorted([*gone, *live], key=_age))

    def instance(self, instance: str) -> Instance | None:
        return self._all.get(instance)

    def runs(
        self, task: str | None = None, instance: str | None = None, ended_after: datetime | None = None
    ) -> tuple[Run, ...]:
        with self._lock:
            runs = [self._runs[key] for key in self._keys_of_runs(task, instance, ended_after)]
        if task is not None:
            runs = [run for run in runs if instance is None or run.instance == instance]
        if ended_after is not None:
            runs = [run for run in runs if run.ended_at is None or run.ended_at >= ended_after]
        return tuple(sorted(runs, key=_BY_CLAIM)) if len(runs) > 1 else tuple(runs)

    def tasks_like(self, prefix: str, limit: int) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted({run.task for run in self._runs.values() if run.task.startswith(prefix)})[:limit])

    def append_events(self, events: Sequence[Event]) -> None:
        with self._lock:
            self._events += [replace(event, seq=self._last_seq + 1 + i) for i, event in enumerate(events)]
            self._last_seq += len(events)

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        instance: str | None = None,
        task: str | None = None,
        kind: str | None = None,
    ) -> tuple[Event, ...]:
        with self._lock:
            found = self._events[bisect_left(self._events, after + 1, key=lambda event: event.seq) :]
        if instance is not None:
            found = [event for event in found if event.instance == instance]
        if task is not None:
            found = [event for event in found if event.task == task]
        if kind is not None:
            found = [event for event in found if event.kind == kind]
        return tuple(found[:limit] if after else found[max(len(found) - limit, 0) :])

    def turns(self) -> Turns:
        return self._turns

    def view(self) -> View | None:
        return self._view

    def usd_since(self, cluster: str, since: datetime, at: datetime) -> float:
        with self._lock:
            live = sum(_usd_between(i, since, at) for i in self._live[cluster].values())
            return live + self._gone[cluster].usd(self._all, since, at)

    def spent_by_gone(self, cluster: str, since: datetime) -> tuple[Spent, ...]:
        with self._lock:
            return self._gone[cluster].spent(self._all, since)

    # --- what the verbs share

    def _order(self, instance: str, rule: Callable[[Instance], Instance]) -> None:
        if self._change(instance, rule):
            self._on_change("orders")

    def _change(self, instance: str, rule: Callable[[Instance], Instance]) -> bool:
        with self._lock:
            before = self._known(instance)
            return self._replace(before, rule(before)) is not before

    def _known(self, instance: str) -> Instance:
        known = self._all.get(instance)
        if known is None:
            raise StoreError(f"instance {instance!r} is not in the store; look at `fleet status` for the ones that are")
        return known

    def _add(self, instance: Instance) -> None:
        self._all[instance.id] = instance
        live = self._live[instance.cluster]
        is_newest = not live or _age(live[next(reversed(live))]) <= _age(instance)
        live[instance.id] = instance
        if not is_newest:  # rare: time went backwards
            self._live[instance.cluster] = dict(sorted(live.items(), key=lambda item: _age(item[1])))
        if instance.gone_at:
            self._close(instance)

    def _replace(self, before: Instance, after: Instance) -> Instance:
        self._all[after.id] = after
        if not before.gone_at:
            self._live[after.cluster][after.id] = after
            if after.gone_at:
                self._close(after)
        return after

    def _close(self, instance: Instance) -> None:
        del self._live[instance.cluster][instance.id]
        self._gone[instance.cluster].add(instance)

    def _keep_runs(self, runs: Sequence[Run]) -> bool:
        """Write these attempts; one that has ended in the store is left as it is. True: one has ended by this."""
        has_ended = False
        for run in runs:
            key = (run.task, run.instance, run.claimed_at)
            known = self._runs.get(key)
            self._runs[key] = kept = life.reported(known, run)
            self._runs_by_task[run.task][key] = None
            self._runs_by_instance[run.instance][key] = None
            if kept.ended_at is None:
                self._running[key] = None
            elif kept is not known:
                has_ended = True
                self._running.pop(key, None)
                insort(self._ended, (kept.ended_at, key))
        return has_ended

    def _keys_of_runs(self, task: str | None, instance: str | None, ended_after: datetime | None) -> Iterable[RunKey]:
        """Of the attempts that may be wanted, by the narrowest of what is known."""
        if task is not None:
            return self._runs_by_task.get(task, {})
        if instance is not None:
            return self._runs_by_instance.get(instance, {})
        if ended_after is None:
            return self._runs
        first = bisect_left(self._ended, ended_after, key=lambda ended: ended[0])
        return [*self._running, *(key for _, key in self._ended[first:])]


class _Ledger:
    """Those of one cluster that are gone, by the time they went, and what they cost.

    The dispatcher asks at every pass what was spent since midnight and since the first of the month. What a closed
    instance cost does not change, so each such sum is carried on and only newly closed ones are added.
    """

    def __init__(self) -> None:
        self._gone: list[tuple[datetime, str]] = []
        self._sums: dict[datetime, tuple[int, float]] = {}  # since -> how many of the gone are counted, US dollars
        # The same for budgets, by queue and user.
        self._spent: dict[datetime, tuple[int, dict[tuple[str | None, str | None], float]]] = {}

    def add(self, instance: Instance) -> None:
        assert instance.gone_at is not None
        if self._gone and self._gone[-1][0] > instance.gone_at:  # rare: it lands among those already counted
            self._sums.clear()
            self._spent.clear()
        insort(self._gone, (instance.gone_at, instance.id), key=lambda gone: gone[0])

    def since(self, gone_after: datetime) -> list[str]:
        first = bisect_left(self._gone, gone_after, key=lambda gone: gone[0])
        return [name for _, name in self._gone[first:]]

    def usd(self, instances: dict[str, Instance], since: datetime, at: datetime) -> float:
        if self._gone and self._gone[-1][0] > at:  # a look into the past: no sum fits
            return sum(_usd_between(instances[name], since, at) for name in self.since(since))
        if len(self._sums) > 8:  # two are asked for at a time; days pass
            self._sums.clear()
        first = bisect_left(self._gone, since, key=lambda gone: gone[0])
        counted, usd = self._sums.get(since, (first, 0.0))
        usd += sum(_usd_between(instances[name], since, at) for _, name in self._gone[counted:])
        self._sums[since] = (len(self._gone), usd)
        return usd

    def spent(self, instances: dict[str, Instance], since: datetime) -> tuple[Spent, ...]:
        if len(self._spent) > 8 and since not in self._spent:
            self._spent.clear()
        # The least that is billed may end after the machine has gone.
        first = bisect_left(self._gone, since - life.LEAST_BILLED, key=lambda gone: gone[0])
        counted, sums = self._spent.get(since, (first, {}))
        for _, name in self._gone[counted:]:
            instance = instances[name]
            key = instance.reason.queue, instance.reason.user
            sums[key] = sums.get(key, 0.0) + life.usd_for_budgets(instance, since)
        self._spent[since] = len(self._gone), sums
        return tuple(Spent(queue=queue, user=user, usd=usd) for (queue, user), usd in sums.items())


def _age(instance: Instance) -> tuple[datetime, str]:
    return instance.requested_at, instance.id


def _usd_between(instance: Instance, since: datetime, at: datetime) -> float:
    return (instance.usd(at) or 0.0) - (instance.usd(min(since, at)) or 0.0)
