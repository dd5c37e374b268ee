"""What became of our machines of late: how often spot was taken back, and whether anything worked. Read from the store once,
then kept up, so that a restart knows what its predecessor knew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.model import Instance, Market, PoolRecord, Reason, Run, RunResult
from fleet.planner.breaker import WORKED_AFTER, Trial
from fleet.planner.market import PoolKey, pool_of
from fleet.store.base import Store

# Long enough to tell a pool that is taken back once a day from a calm one; after it, a pool gets another chance.
WINDOW = timedelta(days=7)
FORGET_EVERY = timedelta(hours=6)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _Past:
    """One machine that is gone."""

    trial: Trial
    pool: PoolKey | None  # None: it was bought on demand
    machine_h: float
    is_interrupted: bool
    lost_h: float


@dataclass(slots=True)
class _Sum:
    """Of one spot pool."""

    machine_h: float = 0.0
    lost_h: float = 0.0
    interruptions: int = 0

    def add(self, past: _Past) -> None:
        self.machine_h += past.machine_h
        self.lost_h += past.lost_h
        self.interruptions += past.is_interrupted


@dataclass(slots=True)
class History:
    """Of one cluster. Costs a query when a machine went, and nothing else."""

    store: Store
    cluster: str
    pools: tuple[PoolRecord, ...] = ()
    lately: dict[str, tuple[Trial, ...]] = field(
        default_factory=dict
    )  # by resource: those gone since the last that worked
    _past: dict[str, dict[str, _Past]] = field(default_factory=lambda: defaultdict(dict))  # by resource, by instance
    _sums: dict[PoolKey, _Sum] = field(default_factory=dict)  # of those that are gone
    _read_until: datetime | None = None
    _forgot_at: datetime | None = None
    _worked: set[str] = field(default_factory=set)  # machines that are there and have done something

    def keep_up(self, live: Sequence[Instance], at: datetime, *, has_closed: bool) -> None:
        """Read what is new. `has_closed`: a machine went since."""
        if self._read_until is None:
            self._read(at - WINDOW, live, at, self.store.runs(ended_after=at - WINDOW))
        elif has_closed:
            self._read(self._read_until, live, at, None)
        elif self._forgot_at is None or at - self._forgot_at >= FORGET_EVERY:
            self._forget(live, at)

    def trials(self, live: Sequence[Instance], at: datetime) -> dict[str, tuple[Trial, ...]]:
        """`lately` of every resource, and of the machines that are there."""
        found = {name: list(trials) for name, trials in self.lately.items()}
        for instance in live:
            if instance.launched_at:
                found.setdefault(instance.resource, []).append(self._trial_of_the_living(instance, at))
        return {name: tuple(trials) for name, trials in found.items()}

    def _trial_of_the_living(self, instance: Instance, at: datetime) -> Trial:
        is_new = instance.id not in self._worked and instance.enrolled_at is not None
        if is_new and any(_is_work(run, at) for run in self.store.runs(instance=instance.id)):
            self._worked.add(instance.id)
        return Trial(
            instance=instance.id,
            resource=instance.resource,
            requested_at=instance.requested_at,
            has_worked=instance.id in self._worked,
        )

    def _read(self, since: datetime, live: Sequence[Instance], at: datetime, runs: Sequence[Run] | None) -> None:
        """What went since then. `runs`: all of that time, where many are asked for at once."""
        by_instance: dict[str, list[Run]] = defaultdict(list)
        fresh: dict[str, list[_Past]] = {}  # by resource
        for run in runs or ():
            by_instance[run.instance].append(run)
        for instance in self.store.instances(self.cluster, gone_after=since):
            known = self._past[instance.resource]
            if instance.gone_at and instance.launched_at and instance.id not in known:
                own = by_instance[instance.id] if runs is not None else self.store.runs(instance=instance.id)
                known[instance.id] = _past_of(instance, own)
                fresh.setdefault(instance.resource, []).append(known[instance.id])
                self._worked.discard(instance.id)
        self._read_until = at
        if self._forgot_at is None or at - self._forgot_at >= FORGET_EVERY:
            self._forget(live, at)
            return
        for name, several in fresh.items():
            self.lately[name] = _lately([*self.lately.get(name, ()), *(past.trial for past in several)])
            self._sum_up(several)
        self.pools = self._records(live, at)

    def _forget(self, live: Sequence[Instance], at: datetime) -> None:
        """Drop what is older than the window, and sum up the rest."""
        self._forgot_at = at
        for name, past in self._past.items():
            old = [key for key, p in past.items() if p.trial.ended_at and p.trial.ended_at < at - WINDOW]
            for key in old:
                del self._past[name][key]
        self._sums = {}
        for each in self._past.values():
            self._sum_up(each.values())
        self.pools = self._records(live, at)
        self.lately = {name: _lately([p.trial for p in past.values()]) for name, past in self._past.items() if past}

    def _sum_up(self, several: Iterable[_Past]) -> None:
        for past in several:
            if past.pool:
                self._sums.setdefault(past.pool, _Sum()).add(past)

    def _records(self, live: Sequence[Instance], at: datetime) -> tuple[PoolRecord, ...]:
        hours = {pool: known.machine_h for pool, known in self._sums.items()}
        for instance in live:
            if instance.offer.market is Market.SPOT and instance.launched_at:
                pool = pool_of(instance.offer)
                hours[pool] = hours.get(pool, 0.0) + (at - instance.launched_at) / HOUR
        none = _Sum()
        return tuple(
            PoolRecord(
                provider=pool[0],
                type=pool[1],
                zone=pool[2],
                machine_h=machine_h,
                interruptions=self._sums.get(pool, none).interruptions,
                lost_h=self._sums.get(pool, none).lost_h,
            )
            for pool, machine_h in sorted(hours.items(), key=str)
        )


def is_interruption(instance: Instance, reason: Reason) -> bool:
    """Whether the cloud took it back: it said so, or a spot machine that worked is no longer listed and nobody knows why."""
    if instance.offer.market is not Market.SPOT:
        return False
    return reason.code == "preempted" or (reason.code == "vanished" and instance.enrolled_at is not None)


def _lately(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """From the last on that worked; what was before it is no sign of anything."""
    worked_at = max((t.requested_at for t in trials if t.has_worked), default=None)
    return tuple(t for t in trials if worked_at is None or t.requested_at >= worked_at)


def _past_of(instance: Instance, runs: Sequence[Run]) -> _Past:
    assert instance.gone_at
    assert instance.launched_at
    reason = instance.end_reason or Reason(code="vanished", text="nobody knows")
    is_interrupted = is_interruption(instance, reason)
    trial = Trial(
        instance=instance.id,
        resource=instance.resource,
        requested_at=instance.requested_at,
        ended_at=instance.gone_at,
        has_held=bool(runs),
        has_worked=any(_is_work(run, instance.gone_at) for run in runs),
        end_code="preempted" if is_interrupted else reason.code,
        end_text=reason.text,
    )
    return _Past(
        trial=trial,
        pool=pool_of(instance.offer) if instance.offer.market is Market.SPOT else None,
        machine_h=(instance.gone_at - instance.launched_at) / HOUR,
        is_interrupted=is_interrupted,
        lost_h=sum([_lost_h(run, instance, instance.gone_at) for run in runs]) if is_interrupted else 0.0,
    )


def _is_work(run: Run, until: datetime) -> bool:
    """Whether the machine did something for this attempt: a broken one fails its tasks at once, or ends under them."""
    return run.result is RunResult.COMPLETED or _lasted(run, until) >= WORKED_AFTER


def _lost_h(run: Run, instance: Instance, until: datetime) -> float:
    """Machine-hours of an attempt that has to begin again; a task that takes a quarter of the GPUs loses a quarter."""
    if run.result not in (RunResult.REQUEUED, None):
        return 0.0
    share = len(run.gpus) / instance.offer.gpus if instance.offer.gpus else 1.0
    return _lasted(run, until) / HOUR * min(share, 1.0)


def _lasted(run: Run, until: datetime) -> timedelta:
    """How long, `until` at most: what went with its machine may be closed only later, by the sweep."""
    return min(run.ended_at or until, until) - (run.started_at or run.claimed_at)
