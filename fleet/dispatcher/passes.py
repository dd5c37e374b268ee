"""One pass: observe, plan, act. The only hand that changes a decision."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet.dispatcher.backoff import Backoffs
from fleet.dispatcher.breakers import Breakers
from fleet.dispatcher.ending import keep_console, repeat_terminations
from fleet.dispatcher.forgotten import Forgotten
from fleet.dispatcher.history import History
from fleet.dispatcher.launching import launch, resume
from fleet.dispatcher.learning import Learner
from fleet.dispatcher.parts import Parts, Policy
from fleet.dispatcher.reconcile import Reconciler
from fleet.dispatcher.spending import spent
from fleet.dispatcher.sweep import Sweeper
from fleet.errors import NotLeading, ProviderError, ServerError, ServerUnreachable
from fleet.model import (
    Budget,
    CancelDrain,
    Drain,
    Event,
    Instance,
    InstanceState,
    Launch,
    Offer,
    Plan,
    QueueView,
    Reason,
    Snapshot,
    Task,
    Terminate,
    View,
    altered,
)
from fleet.planner.plan import plan
from fleet.schedule import InForce, in_force

log = logging.getLogger(__name__)

# Longer than a pass, shorter than patience: how long a dispatcher that died keeps another from taking over.
LEAD_FOR = timedelta(seconds=15)
KEEP_EVENTS = timedelta(days=30)
KEEP_RUNS = timedelta(days=400)  # a year of months, and the one that is not over
FORGET_EVERY = timedelta(days=1)
SWEEP_EVERY = timedelta(seconds=15)
# A launch that was refused is planned anew so often in one pass: a call takes a second or two, and the lead must not run out.
MORE_ROUNDS = 3
# While a machine whose cloud lists without lag is ending: its end is free to see, and a new one may have to wait for it.
SHORT_PATIENCE_S = 0.2


@dataclass(slots=True)
class Dispatcher:
    """Observes, plans, acts, once for each `run_pass`. Holds nothing that a restart would miss."""

    parts: Parts
    policy: Policy
    holder: str  # this process, for the lead: host and pid
    backoffs: Backoffs = field(default_factory=Backoffs)
    listening_since: datetime | None = None
    is_closing: bool = False  # everything is to end: launch nothing more, also not a minimum
    swept_at: datetime | None = None
    forgot_at: datetime | None = None
    alerts: list[Reason] = field(default_factory=list)
    seen_tasks: frozenset[str] = frozenset()
    in_force: InForce | None = None  # limits, as long as no window opens or closes
    # Instances that do not end for idleness; None before the first plan of ours. Lost by a restart, made anew by its first pass.
    kept: frozenset[str] | None = None
    planned: Snapshot | None = None  # that the last plan was made of
    is_standby: bool = False  # another dispatcher leads
    reconciler: Reconciler = field(init=False)
    sweeper: Sweeper = field(init=False)
    forgotten: Forgotten = field(init=False)
    learner: Learner = field(init=False)
    history: History = field(init=False)
    breakers: Breakers = field(init=False)

    def __post_init__(self) -> None:
        self.sweeper = Sweeper(self.parts, self.policy)
        self.forgotten = Forgotten(self.parts, self.policy)
        self.learner = Learner(self.parts.store, self.policy.cluster, self.policy.wait_usd_per_hour)
        self.reconciler = Reconciler(self.parts, self.policy, self.backoffs)
        self.history = History(self.parts.store, self.policy.cluster)
        self.breakers = Breakers(self.parts.store, self.history)

    def run_pass(self) -> Plan:
        """Observe, plan, act once.

        Raises:
            NotLeading: another dispatcher of this cluster is alive; nothing was done.
            StoreError: the memory does not answer; nothing is done without it.
        """
        at = self._lead()
        since, woken_at = self.listening_since or at, self.parts.woken_at()
        self.listening_since = max(since, woken_at) if woken_at else since
        self._forget(at)
        snapshot, is_server_ok = self.observe()
        made, refused = self._carry_out(snapshot, is_server_ok)
        for again in range(1, MORE_ROUNDS + 1):
            if not refused:
                break
            snapshot = self._after_refusals(snapshot, again)
            more, refused = self._carry_out(snapshot, is_server_ok)
            made = replace(more, pass_id=made.pass_id, actions=(*made.actions, *more.actions))
        return made

    def foreseen(self, tasks: tuple[Task, ...], instances: tuple[Instance, ...]) -> Plan | None:
        """What a pass would plan that finds these, and all else as the last pass did; None: there was none. For the simulator."""
        if self.planned is None:
            return None
        snapshot = altered(
            self.planned,
            pass_id=self.parts.new_id(),
            at=self.parts.now(),
            tasks=tasks,
            instances=instances,
            habits=self.learner.habits,
        )
        return plan(snapshot)

    def _lead(self) -> datetime:
        """Become, or stay, the one that acts, from now on for LEAD_FOR.

        Raises:
            NotLeading: another dispatcher is it.
        """
        at = self.parts.now()
        if not self.parts.store.take_lead(self.policy.cluster, self.holder, at, at + LEAD_FOR):
            self.is_standby, self.kept = True, None
            raise NotLeading(
                f"another dispatcher leads cluster {self.policy.cluster}; it ends, or its lead runs out, first"
            )
        return at

    def _carry_out(self, snapshot: Snapshot, is_server_ok: bool) -> tuple[Plan, int]:
        """Plan, remember, act; and how many launches were refused."""
        made = self._with_schedule(plan(snapshot))
        self.is_standby, self.kept, self.planned = False, made.kept, snapshot
        self.remember(snapshot, made, is_server_ok)
        return made, self.act(made)

    @property
    def patience_s(self) -> float:
        """How long to wait for the next pass at most, in seconds."""
        instant = {n for n, p in self.parts.providers.items() if not p.list_lag}
        ending = (i for i in self.parts.store.instances(self.policy.cluster) if i.state is InstanceState.TERMINATING)
        is_soon = any(self.provider_of(i) in instant for i in ending)
        return SHORT_PATIENCE_S if is_soon else self.policy.poll_interval.total_seconds()

    def provider_of(self, instance: Instance) -> str:
        """The name of its provider, also when its resource has left the fleet file."""
        resource = next((r for r in self.policy.resources if r.name == instance.resource), None)
        return resource.provider if resource else instance.offer.provider

    def observe(self) -> tuple[Snapshot, bool]:
        """The world as it is: clouds reconciled, intents resumed, tasks swept, queues read. False: the server is silent."""
        self.alerts = []
        store, cluster = self.parts.store, self.policy.cluster
        self.reconciler.run(store.instances(cluster))
        self.alerts += self.reconciler.alerts
        instances = store.instances(cluster)
        resume(instances, self.parts, self.policy, self.backoffs)
        repeat_terminations(instances, self.parts, self.provider_of)
        at = self.parts.now()
        self.history.keep_up(instances, at, has_closed=self.reconciler.has_closed)
        pauses = self.breakers.run(instances, at)
        self.alerts += [*self.backoffs.loud(at), *self.breakers.alerts]
        tasks, is_server_ok = self._demand()
        limits, offers = self.limits(), self._offers()
        # Clouds may have taken longer to answer than a lead lasts: what another has launched meanwhile must be in the snapshot.
        self._lead()
        snapshot = Snapshot(
            pass_id=self.parts.new_id(),
            at=self.parts.now(),
            cluster=cluster,
            tasks=tasks,
            queues=limits.queues,
            resources=limits.resources,
            offers=offers,
            instances=store.instances(cluster),
            budget=Budget(max_instances=0) if self.is_closing else limits.budget,
            backoffs=(*self.backoffs.at(at), *pauses),
            pools=self.history.pools,
            habits=self.learner.look(at),
            listening_since=self.listening_since,
            poll_interval=self.policy.poll_interval,
            **spent(store, cluster, self.policy.budget, self.parts.now()),
            fairness=self.policy.fairness,
            starvation_after=self.policy.starvation_after,
            holds=store.turns().holds,
        )
        return snapshot, is_server_ok

    def act(self, made: Plan) -> int:
        """Carry out a plan; how many of its launches were refused. Repeating it does no harm: ids and orders are the same."""
        store, at = self.parts.store, self.parts.now()
        for action in made.actions:
            if isinstance(action, Drain):
                store.request_drain(action.instance, action.reason, at)
            elif isinstance(action, CancelDrain):
                store.cancel_drain(action.instance, action.reason, at)
            elif isinstance(action, Terminate):
                log.info("instance ordered to end", extra={"instance": action.instance, "reason": action.reason.text})
                store.request_terminate(action.instance, action.reason, at)
        store.stand(made.standings)
        refused = launch([a for a in made.actions if isinstance(a, Launch)], self.parts, self.policy, self.backoffs)
        ordered = {a.instance for a in made.actions if isinstance(a, Terminate)}
        if ordered:
            ending = [i for i in store.instances(self.policy.cluster) if i.id in ordered]
            for instance in ending:
                keep_console(instance, self.parts, self.parts.providers.get(self.provider_of(instance)))
            repeat_terminations(ending, self.parts, self.provider_of)
        return refused

    def _after_refusals(self, snapshot: Snapshot, again: int) -> Snapshot:
        """The same world, but that some offers cannot be had: what they were for may get the next best at once."""
        at = self._lead()
        return replace(
            snapshot,
            pass_id=f"{snapshot.pass_id}r{again}",  # other ids than those that were refused
            at=at,
            instances=self.parts.store.instances(self.policy.cluster),
            backoffs=(*self.backoffs.at(at), *self.breakers.run(snapshot.instances, at)),
        )

    def remember(self, snapshot: Snapshot, made: Plan, is_server_ok: bool) -> None:
        """Keep what this pass saw and decided, for supervisors and the reading commands."""
        if is_server_ok:  # who cannot see what waits does not know whose turn it is
            self.parts.store.remember_turns(made.turns)
        self.parts.store.remember_view(
            View(
                at=snapshot.at,
                pass_id=snapshot.pass_id,
                server_url=self.policy.server_url,
                server_kind=self.policy.server_kind,
                is_server_ok=is_server_ok,
                queues=tuple(self._queue_views(snapshot.tasks)),
                waiting=made.waiting,
                alerts=tuple(self.alerts),
                notes=made.notes,
                max_instances=self.limits().budget.max_instances,
            )
        )

    def limits(self) -> InForce:
        """The limits that hold now. Worked out again only when a window opens or closes."""
        at, policy = self.parts.now(), self.policy
        if self.in_force is None or (self.in_force.until is not None and at >= self.in_force.until):
            self.in_force = in_force(policy.resources, policy.queues, policy.budget, at)
        return self.in_force

    def _with_schedule(self, made: Plan) -> Plan:
        """It names the windows that are open, and changes when one opens or closes."""
        limits = self.limits()
        wake_at = min((at for at in (made.wake_at, limits.until) if at is not None), default=None)
        return replace(made, wake_at=wake_at, notes=(*limits.notes, *made.notes)) if limits.until else made

    def _demand(self) -> tuple[tuple[Task, ...], bool]:
        """What waits; nothing when the server is silent (then machines are still reaped, but none is launched)."""
        at = self.parts.now()
        is_sweep_due = self.swept_at is None or at - self.swept_at >= SWEEP_EVERY or self.reconciler.has_closed
        try:
            if is_sweep_due:
                self.parts.demand.ensure_queues([q.name for q in self.policy.queues])
                self.sweeper.sweep()
                self.forgotten.sweep()
                self.swept_at = at
            tasks = self.parts.demand.waiting(self.policy.queues)
        except ServerUnreachable as error:
            self.alerts.append(Reason(code="server_silent", text=f"the ClearML server does not answer: {error}"))
            return (), False
        except ServerError as error:
            log.error("the ClearML server refused", extra={"error": str(error)})
            self.alerts.append(Reason(code="server_refused", text=f"the ClearML server refused: {error}"))
            return (), False
        ids = frozenset(t.id for t in tasks)
        if ids - self.seen_tasks:
            self.parts.announce()
            self._tell_ignored_wishes([t for t in tasks if t.notes and t.id not in self.seen_tasks])
        self.seen_tasks = ids
        return tasks, True

    def _forget(self, at: datetime) -> None:
        """The log of events and the ledger of runs grow with every task. What machines cost is kept: docs/adr/0049-nothing-grows.md"""
        if self.forgot_at is None or at - self.forgot_at >= FORGET_EVERY:
            self.forgot_at = at
            forgotten = self.parts.store.forget_events(at - KEEP_EVENTS)
            runs = self.parts.store.forget_runs(at - KEEP_RUNS)
            if forgotten or runs:
                log.info("old events and runs forgotten", extra={"events": forgotten, "runs": runs})

    def _tell_ignored_wishes(self, tasks: Sequence[Task]) -> None:
        """Once for each task and wish: its author would wait for a machine that nobody looks for."""
        store, at = self.parts.store, self.parts.now()
        for task in tasks:
            told = {e.text for e in store.events(task=task.id) if e.kind == "task.wish_ignored"}
            notes = [note for note in task.notes if note not in told]
            store.append_events(
                [Event(at=at, kind="task.wish_ignored", text=n, task=task.id, queue=task.queue) for n in notes]
            )

    def _offers(self) -> tuple[Offer, ...]:
        found: list[Offer] = []
        for resource in self.policy.resources:
            try:
                found += self.parts.providers[resource.provider].offers(resource, self.parts.now())
            except ProviderError as error:
                self.alerts.append(Reason(code="no_offers", text=f"resource {resource.name}: {error}"))
        return tuple(found)

    def _queue_views(self, tasks: Sequence[Task]) -> list[QueueView]:
        by_queue: dict[str, list[datetime]] = {q.name: [] for q in self.policy.queues}
        for task in tasks:
            by_queue[task.queue].append(task.enqueued_at)
        return [
            QueueView(
                name=q.name,
                queued=len(by_queue[q.name]),
                oldest_enqueued_at=min(by_queue[q.name], default=None),
                need=q.need,
                resources=q.resources,
            )
            for q in self.policy.queues
        ]
