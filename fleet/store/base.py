"""The one memory of the centre: verbs, not queries. One writer per field; an instance's state is read from its times.

Dispatcher and web meet here and nowhere else. `fleet.store.memory` is for tests and the simulator, `fleet.store.sql`
keeps the same in SQLite or PostgreSQL; one contract test holds both.
Times are given by the caller, so that the simulator can run in virtual time. Unknown instances raise StoreError; one
that is gone is left as it is by every verb (`fleet.store.life` has the rules).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from fleet.model import Allocation, Event, Gpu, Instance, Offer, Reason, Run, Spent, Standing, Turns, View, Vitals

# Longer than a machine waits for an answer: of two successors it must not hold the one that was replaced.
OFFERED_ANEW_AFTER = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Who holds a token, and what is to be known of that token."""

    instance: Instance
    issued_at: datetime | None  # None: it is not renewed, and lives as long as its instance
    is_successor: bool  # offered, and not used before


class DispatcherStore(Protocol):
    """Written by the dispatcher."""

    def take_lead(self, cluster: str, holder: str, at: datetime, until: datetime) -> bool:
        """Become, or stay, the one dispatcher of `cluster` until `until`. False: another holds the lead still.

        One atomic statement: of two who ask at once, one gets it.
        """
        ...

    def give_up_lead(self, cluster: str, holder: str) -> None:
        """Let another lead at once; nothing if `holder` does not lead."""
        ...

    def record_intents(self, instances: Sequence[Instance]) -> None:
        """Write instances that are about to be launched, all or none, before the cloud call. A known id is left as it is."""
        ...

    def note_launched(self, instance: str, cloud_id: str, at: datetime, offer: Offer | None = None) -> None:
        """The cloud confirmed; `offer`: what it has become, where that is not what was asked for. The first confirmation stays."""
        ...

    def request_drain(self, instance: str, reason: Reason, at: datetime, by: datetime | None = None) -> None:
        """Level: stays until the instance is gone. Also sets `end_reason` unless there is one. Known ones keep their first, but
        an operator's order (its code) outdoes those that fleet would take back.

        `by`: its tasks may run until then; the last one that was given counts.
        """
        ...

    def cancel_drain(self, instance: str, reason: Reason, at: datetime) -> None:
        """Take a drain order back, unless it is an operator's or its machine is ending; clears `end_reason` with it. A machine that has stopped
        pulling because of it says in a later heartbeat that it pulls again."""
        ...

    def stand(self, standings: Sequence[tuple[str, Standing]]) -> None:
        """From now on these levels hold for these instances, all or none of them; the last word counts.

        Heard with their next heartbeat.
        """
        ...

    def request_terminate(self, instance: str, reason: Reason, at: datetime) -> None: ...

    def note_gone(self, instance: str, reason: Reason, at: datetime) -> None:
        """The cloud no longer lists it, or the launch failed: the ledger is closed. `end_reason` keeps the first reason."""
        ...

    def close_run(self, run: Run) -> None:
        """Write the end of an attempt whose machine can no longer report it. An ended one is left as it is."""
        ...

    def remember_view(self, view: View) -> None:
        """What this pass saw and decided; replaces the last."""
        ...

    def remember_turns(self, turns: Turns) -> None:
        """Whose turn it is, for every supervisor; replaces the last."""
        ...

    def forget_events(self, before: datetime) -> int:
        """Delete the events older than that; how many there were. Numbers are not given again."""
        ...

    def forget_runs(self, before: datetime) -> int:
        """Delete the attempts that ended before then; how many there were. With them go join tokens that expired before then."""
        ...


class EdgeStore(Protocol):
    """Written for supervisors, by the edge API."""

    def expect(self, instance: str, join_hash: str, expires_at: datetime) -> None:
        """A machine may enrol as `instance` with the token of this SHA-256 hash (hex), once, until then."""
        ...

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
        """Use up the join token. None: unknown, used, expired, or made for another instance, or the instance is ending.

        The answer may be lost on its way: until the first heartbeat the same token enrols again, and `token_hash` is replaced.
        `renews`: it takes successors of that token, so that the token has an age.
        """
        ...

    def who(self, token_hash: str) -> Bearer | None:
        """The instance whose supervisor holds this token, or was offered it; None once it is gone."""
        ...

    def offer(self, token_hash: str, successor_hash: str, at: datetime) -> bool:
        """From now on the supervisor that holds this token may come with its successor too, which replaces one offered before.

        False, and nothing changed: it holds another by now, or was offered one within OFFERED_ANEW_AFTER.
        """
        ...

    def take_up(self, token_hash: str) -> None:
        """This successor was used: it is the token now, and the one before is worth nothing. Nothing if it is none."""
        ...

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
        """Store a heartbeat's facts: sets heartbeat_at, idle_since, allocations, gpus, kept_awake, vitals, unsettled; the first time
        that it does not pull stopped_pulling_at, the first time that it is ending goodbye_at, with `reason` as end_reason unless there is one.
        One that pulls (again) and is not ending clears stopped_pulling_at, and end_reason unless a drain is ordered.

        `at`: when it was received. One that was overtaken by a later one changes nothing but the ends of attempts.
        Runs are upserted by (task, instance, claimed_at). Returns the instance as it is now, orders included.
        """
        ...


class ReadStore(Protocol):
    """Read by everybody."""

    def instances(self, cluster: str, gone_after: datetime | None = None) -> tuple[Instance, ...]:
        """All that are not gone, oldest first; with `gone_after` also those gone since then."""
        ...

    def instance(self, instance: str) -> Instance | None: ...

    def runs(
        self, task: str | None = None, instance: str | None = None, ended_after: datetime | None = None
    ) -> tuple[Run, ...]:
        """Attempts, oldest first. With `ended_after`: those that run now or ended since."""
        ...

    def tasks_like(self, prefix: str, limit: int) -> tuple[str, ...]:
        """Ids of tasks that ever ran and whose id begins with `prefix`: the first `limit` of them, in order."""
        ...

    def append_events(self, events: Sequence[Event]) -> None: ...

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        instance: str | None = None,
        task: str | None = None,
        kind: str | None = None,
    ) -> tuple[Event, ...]:
        """Oldest first, with seq > after; the newest `limit` of them when after is 0. Only of this instance, task, kind."""
        ...

    def turns(self) -> Turns:
        """As the last pass said; by priority alone before the first."""
        ...

    def view(self) -> View | None:
        """What the last pass saw; None before the first."""
        ...

    def usd_since(self, cluster: str, since: datetime, at: datetime) -> float:
        """US dollars that this cluster's instances cost between the two times, by the second; unknown prices count 0."""
        ...

    def spent_by_gone(self, cluster: str, since: datetime) -> tuple[Spent, ...]:
        """What instances that are gone have cost since then, by the queue and user of their launch; unknown prices count 0.

        For budgets, so never too little: from the intent on, because a confirmation may come late, and at least
        `LEAST_BILLED` from the confirmation on.
        """
        ...


class Store(DispatcherStore, EdgeStore, ReadStore, Protocol):
    """All of it."""
