"""The event log, written where state changes: a store that tells every change of an instance or a run as an event (P7).

It wraps either store and adds nothing but events, so that no caller has to remember to write them. Of two threads that tell
of one instance at once (an order of an operator's and a pass, a heartbeat and its repetition) the second sees what the first
has changed: a change is told once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

from fleet.model import (
    Allocation,
    Event,
    Gpu,
    Instance,
    Offer,
    Reason,
    Run,
    RunResult,
    Spent,
    Standing,
    Turns,
    View,
    Vitals,
)
from fleet.store.base import Bearer, Store

# Enough that heartbeats of different machines hardly ever wait for one another.
LOCKS = 256


class ChronicledStore:
    """Keeps the contract of `Store`: passes every verb on, and appends the events that follow from it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks = tuple(threading.RLock() for _ in range(LOCKS))

    # --- verbs that change something

    def record_intents(self, instances: Sequence[Instance]) -> None:
        fresh = [i for i in instances if self._store.instance(i.id) is None]
        self._store.record_intents(instances)
        self._store.append_events(
            [
                _event("instance.launching", i, i.requested_at, f"launching {_shape(i)}: {i.reason}", i.reason)
                for i in fresh
            ]
        )

    def note_launched(self, instance: str, cloud_id: str, at: datetime, offer: Offer | None = None) -> None:
        with self._alone(instance):
            before = self._store.instance(instance)
            self._store.note_launched(instance, cloud_id, at, offer)
            if before and before.launched_at is None:
                became = f"; it has become {offer.type} in {offer.zone or offer.region}" if offer else ""
                self._tell("instance.launched", before, at, f"the cloud calls it {cloud_id}{became}", before.reason)

    def request_drain(self, instance: str, reason: Reason, at: datetime, by: datetime | None = None) -> None:
        with self._alone(instance):
            before = self._store.instance(instance)
            self._store.request_drain(instance, reason, at, by)
            after = self._store.instance(instance)
            # Of one that is gone nothing changes any more, whatever is ordered.
            if before and after and _drain(before) != _drain(after):
                until = f" by {by:%Y-%m-%d %H:%M:%S} UTC" if by else ""
                self._tell("instance.draining", before, at, f"asked to drain{until}: {reason}", reason)

    def cancel_drain(self, instance: str, reason: Reason, at: datetime) -> None:
        with self._alone(instance):
            before = self._store.instance(instance)
            self._store.cancel_drain(instance, reason, at)
            after = self._store.instance(instance)
            if before and after and before.drain_requested_at and not after.drain_requested_at:
                self._tell("instance.drain_cancelled", before, at, f"takes tasks again: {reason}", reason)

    def request_terminate(self, instance: str, reason: Reason, at: datetime) -> None:
        with self._alone(instance):
            before = self._store.instance(instance)
            self._store.request_terminate(instance, reason, at)
            after = self._store.instance(instance)
            if before and after and before.terminate_requested_at is None and after.terminate_requested_at:
                self._tell("instance.terminating", before, at, f"ordered to end: {reason}", reason)

    def note_gone(self, instance: str, reason: Reason, at: datetime) -> None:
        with self._alone(instance):
            before = self._store.instance(instance)
            self._store.note_gone(instance, reason, at)
            if before and before.gone_at is None:
                why = before.end_reason or reason
                self._tell("instance.gone", before, at, f"gone: {why}", why)

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
        with self._alone(instance):
            before = self._store.instance(instance)
            after = self._store.enroll(instance, join_hash, token_hash, hostname, gpus, at, renews)
            if after and before and before.enrolled_at is None:
                self._tell("instance.ready", after, at, f"ready on {hostname}, {_count(gpus)}", None)
            return after

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
        with self._alone(instance):
            # Only these are news. The ordinary heartbeat, of thousands of machines, shall not read its row twice.
            is_news = is_ending or not is_pulling or any(gpu.sick for gpu in gpus)
            before = self._store.instance(instance) if is_news else None
            known = {
                _key(r): r for task in {r.task for r in runs} for r in self._store.runs(task=task, instance=instance)
            }
            after = self._store.beat(
                instance,
                at=at,
                is_pulling=is_pulling,
                is_ending=is_ending,
                reason=reason,
                idle_since=idle_since,
                allocations=allocations,
                runs=runs,
                gpus=gpus,
                vitals=vitals,
                unsettled=unsettled,
            )
            events = [e for run in runs for e in _run_events(known.get(_key(run)), run, at)]
            events += [_fell_sick(after, gpu, at) for gpu in _newly_sick(before, gpus)] if before else []
            if before and before.stopped_pulling_at is None and after.stopped_pulling_at:
                events.append(
                    _event("instance.draining", after, at, f"pulls no more: {reason or 'no reason given'}", reason)
                )
            if before and before.goodbye_at is None and after.goodbye_at:
                events.append(
                    _event("instance.ending", after, at, f"ends itself: {reason or 'no reason given'}", reason)
                )
            if events:
                self._store.append_events(events)
            return after

    def close_run(self, run: Run) -> None:
        self._store.close_run(run)

    # --- verbs passed on as they are

    def take_lead(self, cluster: str, holder: str, at: datetime, until: datetime) -> bool:
        return self._store.take_lead(cluster, holder, at, until)

    def give_up_lead(self, cluster: str, holder: str) -> None:
        self._store.give_up_lead(cluster, holder)

    def remember_view(self, view: View) -> None:
        self._store.remember_view(view)

    def stand(self, standings: Sequence[tuple[str, Standing]]) -> None:
        self._store.stand(standings)

    def remember_turns(self, turns: Turns) -> None:
        self._store.remember_turns(turns)

    def expect(self, instance: str, join_hash: str, expires_at: datetime) -> None:
        self._store.expect(instance, join_hash, expires_at)

    def who(self, token_hash: str) -> Bearer | None:
        return self._store.who(token_hash)

    def offer(self, token_hash: str, successor_hash: str, at: datetime) -> bool:
        return self._store.offer(token_hash, successor_hash, at)

    def take_up(self, token_hash: str) -> None:
        self._store.take_up(token_hash)

    def instances(self, cluster: str, gone_after: datetime | None = None) -> tuple[Instance, ...]:
        return self._store.instances(cluster, gone_after)

    def instance(self, instance: str) -> Instance | None:
        return self._store.instance(instance)

    def runs(
        self, task: str | None = None, instance: str | None = None, ended_after: datetime | None = None
    ) -> tuple[Run, ...]:
        return self._store.runs(task, instance, ended_after)

    def tasks_like(self, prefix: str, limit: int) -> tuple[str, ...]:
        return self._store.tasks_like(prefix, limit)

    def append_events(self, events: Sequence[Event]) -> None:
        self._store.append_events(events)

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        instance: str | None = None,
        task: str | None = None,
        kind: str | None = None,
    ) -> tuple[Event, ...]:
        return self._store.events(after, limit, instance, task, kind)

    def turns(self) -> Turns:
        return self._store.turns()

    def view(self) -> View | None:
        return self._store.view()

    def forget_events(self, before: datetime) -> int:
        return self._store.forget_events(before)

    def forget_runs(self, before: datetime) -> int:
        return self._store.forget_runs(before)

    def usd_since(self, cluster: str, since: datetime, at: datetime) -> float:
        return self._store.usd_since(cluster, since, at)

    def spent_by_gone(self, cluster: str, since: datetime) -> tuple[Spent, ...]:
        return self._store.spent_by_gone(cluster, since)

    def _alone(self, instance: str) -> threading.RLock:
        return self._locks[hash(instance) % LOCKS]

    def _tell(self, kind: str, instance: Instance, at: datetime, text: str, reason: Reason | None) -> None:
        self._store.append_events([_event(kind, instance, at, text, reason)])


def _drain(instance: Instance) -> tuple[bool, datetime | None, Reason | None]:
    return instance.drain_requested_at is not None, instance.drain_by, instance.end_reason


def _key(run: Run) -> tuple[str, str, datetime]:
    return run.task, run.instance, run.claimed_at


def _shape(instance: Instance) -> str:
    offer = instance.offer
    price = "price unknown" if offer.price_usd_per_hour is None else f"${offer.price_usd_per_hour:.2f}/h"
    return f"{offer.type} for {offer.resource} ({price})"


def _event(kind: str, instance: Instance, at: datetime, text: str, reason: Reason | None) -> Event:
    return Event(
        at=at, kind=kind, text=text, instance=instance.id, reason=reason, queue=reason.queue if reason else None
    )


def _newly_sick(before: Instance, gpus: Sequence[Gpu]) -> list[Gpu]:
    known = {gpu.uuid for gpu in before.gpus if gpu.sick}
    return [gpu for gpu in gpus if gpu.sick and gpu.uuid not in known]


def _fell_sick(instance: Instance, gpu: Gpu, at: datetime) -> Event:
    text = f"GPU {gpu.index} is out of service: {gpu.sick}"
    return _event("instance.gpu_sick", instance, at, text, Reason(code="gpu_sick", text=text))


def _run_events(before: Run | None, run: Run, at: datetime) -> list[Event]:
    """What is new about a run: it was claimed, its agent started, it ended."""
    found = []
    if before is None:
        found.append(("task.claimed", run.claimed_at, f"taken from queue {run.queue}, {_count(run.gpus)}"))
    if run.started_at and not (before and before.started_at):
        found.append(("task.started", run.started_at, f"agent runs as {run.worker}"))
    if run.ended_at and not (before and before.ended_at):
        found.append(("task.ended", run.ended_at, _ending(run)))
    return [
        Event(at=when, kind=kind, text=text, instance=run.instance, task=run.task, queue=run.queue)
        for kind, when, text in found
    ]


def _count(gpus: Sequence[object]) -> str:
    return f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}" if gpus else "CPU only"


def _ending(run: Run) -> str:
    result = run.result or RunResult.STOPPED
    code = f", exit code {run.exit_code}" if run.exit_code is not None else ""
    took = (run.ended_at - (run.started_at or run.claimed_at)).total_seconds() if run.ended_at else 0.0
    return f"{result} after {took:.1f} s{code}"
