"""The simulation: the real planner, dispatcher passes and supervisor decisions in virtual time, on a fake cloud.

A dispatcher passes at the ticks of its poll interval, as it does in life, but only at those where a plan may come out
differently: a task waits that it has not seen, something failed, a deadline is due. What can only make a plan smaller
(a task ended, a machine enrolled or went) can wait for the next such pass. `is_dense` passes at every tick instead; both
come to the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from random import Random

from fleet.dispatcher.parts import Parts, Policy
from fleet.dispatcher.passes import Dispatcher
from fleet.errors import NotLeading
from fleet.model import Action, Budget, Gpu, Launch, MarketPolicy, Plan, Queue, Task, Terminate
from fleet.planner.fairness import is_fair
from fleet.planner.habits import IDLE_CHOICES_S
from fleet.providers.base import LaunchOrder
from fleet.simulate.agenda import EPOCH, Agenda, Turn, after
from fleet.simulate.cloud import DispatcherKilled, SimulatedCloud
from fleet.simulate.deadlines import Deadlines
from fleet.simulate.machine import Machine, World
from fleet.simulate.outcome import outcome_of
from fleet.simulate.server import Peeks, SimulatedServer
from fleet.simulate.setting import Outcome, Setting
from fleet.simulate.story import Listener, Telling, store_of
from fleet.simulate.trace import Submission, task_id
from fleet.simulate.truth import Truth
from fleet.supervisor import decide

# As the centre tells its supervisors: shorter than the reaper's patience, so that a machine that is cut off ends first.
CONTACT_TIMEOUT = timedelta(seconds=120)
SWEEP_EVERY = timedelta(seconds=15)
ORPHAN_GRACE = timedelta(seconds=60)
MOMENT = timedelta(microseconds=1)
# How late a pass may be that could at most find less to do: every pass begins by looking at everything.
NO_HURRY = timedelta(minutes=10)
# When all tasks are settled, machines get this long beyond their idle time to end; those kept for ever are billed till then.
LAST_WORDS = timedelta(hours=1)
# A fleet that finishes nothing for so long, beyond three times its longest task, never will.
PATIENCE = timedelta(days=7)


class Simulation:
    """One run, from the first submission until nothing more can happen."""

    def __init__(self, setting: Setting, listener: Listener | None = None) -> None:
        self.setting = setting
        self.agenda = Agenda()
        self.truth = Truth(checkpoint=setting.checkpoint)
        self.server = SimulatedServer(self.agenda.now, self._on_queue_change)
        self.telling = Telling(listener, self.agenda.now) if listener else None
        self.store = store_of(self._on_store_change, self.telling)
        self._jobs = {task_id(n): job for n, job in enumerate(setting.workload)}
        self._durations = {task: timedelta(seconds=job.duration_s) for task, job in self._jobs.items()}
        self._longest = max(self._durations.values(), default=timedelta(0))
        self._world = World(
            cluster=setting.policy.cluster,
            agenda=self.agenda,
            server=self.server,
            store=self.store,
            truth=self.truth,
            faults=setting.faults,
            duration_of=lambda task: self._durations[task] - self.truth.kept.get(task, timedelta(0)),
            is_kept=lambda instance: instance in self._kept,
            on_start=self._on_start,
        )
        self._clouds = {name: self._cloud() for name in dict.fromkeys(r.provider for r in setting.policy.resources)}
        self._queues = {r.name: _queues_of(r.name, setting.policy.queues) for r in setting.policy.resources}
        self._deadlines = Deadlines(setting.policy.resources, self.request_pass)
        self._peeks: dict[tuple[str, str], Peeks] = {}  # by resource and type
        self._machines: dict[str, Machine] = {}
        self._order = Random(setting.faults.seed)
        self._tick_at: datetime | None = None
        self._is_ticking = False
        self._is_mixed = any(r.market is MarketPolicy.SPOT_THEN_ON_DEMAND for r in setting.policy.resources)
        self._pass_at: datetime | None = None
        self._passed_at: datetime | None = None
        self._promised: set[datetime] = set()  # passes far off
        self._unswept: set[str] = set()  # machines that took tasks with them
        self._is_idle_auto = any(r.is_idle_auto for r in setting.policy.resources)
        self._is_at_a_limit = False  # a task waits for something to go
        self._is_fair = is_fair(setting.policy.queues, setting.policy.fairness)
        self._is_anybody_waiting = False
        self._is_gang_waiting = False
        self._nodes = 0  # launches of nodes so far
        self._held: frozenset[str] = frozenset()  # tasks for which machines are held
        self._planned: dict[str, str] = {}  # which machine a task waits for, as the last plan said
        self._started = 0  # so many attempts have been looked at
        self._peeked = 0
        self._unsubmitted = len(self._jobs)
        self._settled_until: datetime | None = None
        self._progress_at = EPOCH
        self._finished = 0
        self._patience = PATIENCE + 3 * self._longest + _longest_window(setting.policy.budget)
        self._made: Plan | None = None
        self._kept: frozenset[str] = frozenset()  # by the orders of the last plan
        # A fleet that keeps room free may have something to do whenever a task starts or ends.
        self._has_levels = _has_levels(setting.policy)
        self._passes = 0
        self._restarts = 0
        self.dispatcher = self._new_dispatcher()

    def run(self) -> Outcome:
        """Until every task is settled and every machine has ended, or nothing will change any more."""
        self.server.ensure_queues([queue.name for queue in self.setting.policy.queues])
        for task, job in self._jobs.items():
            self.agenda.add(after(job.submit_s), partial(self._submit, task, job))
        self.request_pass(EPOCH)
        self._plan_restart()
        while (at := self.agenda.next_at()) is not None and not self._is_over(at):
            self.agenda.step()
        return outcome_of(
            policy=self.setting.policy,
            tasks=self._jobs,
            truth=self.truth,
            server=self.server,
            store=self.store,
            waiting=self._made.waiting if self._made else (),
            ended_at=self.agenda.at,
            passes=self._passes,
        )

    # --- what happens

    def _submit(self, task: str, job: Submission) -> None:
        self._unsubmitted -= 1
        self._progress_at = self.agenda.at
        self.server.add(task, id=task, tags=job.tags, user=job.user)
        self.server.enqueue(task, job.queue)

    def _on_launch(self, order: LaunchOrder, cloud: SimulatedCloud) -> None:
        """The cloud starts a machine, and its fate is drawn."""
        at, resource, faults = self.agenda.at, order.resource, self.setting.faults
        policy = decide.Policy(
            queues=self._queues[resource.name],
            idle_timeout=resource.idle_timeout,
            contact_timeout=CONTACT_TIMEOUT,
            max_lifetime=resource.max_lifetime,
        )
        end = partial(self._on_shutdown, cloud)
        machine = Machine(order, self._world, policy, self._peeks_of, end)
        self._machines[order.instance] = machine
        is_dead = faults.has(faults.dead_boots, "dead boot", order.instance)
        boots_in_time = not is_dead and self.setting.boot_time < resource.boot_timeout
        self._deadlines.of_launch(resource, at, boots_in_time=boots_in_time)
        if is_dead:
            self._tell("dead boot", "it will never enrol", machine.id)
        else:
            self.agenda.add(at + self.setting.boot_time, machine.boot)
        self._plan_silence(machine, at)
        life = faults.spot_life_of(order.offer, order.instance, at)
        if life is not None:
            taken_at = at + max(life, faults.notice)
            self.agenda.add(taken_at - faults.notice, partial(machine.take_notice, taken_at))
            self.agenda.add(taken_at, partial(self._on_taken, order.instance, cloud))

    def _peeks_of(self, order: LaunchOrder, gpus: tuple[Gpu, ...]) -> Peeks:
        kind = (order.resource.name, order.offer.type)
        if kind not in self._peeks:
            self._peeks[kind] = Peeks(self.server, self._queues[order.resource.name], gpus)
        return self._peeks[kind]

    def _plan_silence(self, machine: Machine, at: datetime) -> None:
        faults = self.setting.faults
        at += self.setting.boot_time
        cut = faults.wait(faults.cut_off_every, "cut off", machine.id)
        death = faults.wait(faults.supervisor_life, "supervisor dies", machine.id)
        silences = [wait for wait in (cut, death) if wait is not None]
        if not silences:
            return
        silent_at = at + min(silences)
        machine.lose_contact_at(silent_at)
        self._deadlines.of_silence(silent_at)
        if min(silences) == cut:
            self.agenda.add(silent_at, partial(self._befall, machine, "cut off", machine.lose_contact))
            back_after = faults.wait(faults.cut_off_for, "cut off for", machine.id) or timedelta(0)
            self.agenda.add(silent_at + back_after, partial(self._befall, machine, "back", machine.find_contact))
        else:
            self.agenda.add(silent_at, partial(self._befall, machine, "supervisor dead", machine.lose_supervisor))

    def _befall(self, machine: Machine, what: str, act: Callable[[], None]) -> None:
        if machine.id in self._machines:
            self._tell(what, "nobody else knows of it yet", machine.id)
        act()

    def _tell(self, what: str, text: str, instance: str | None = None) -> None:
        if self.telling:
            self.telling.world(what, text, instance)

    def _on_taken(self, instance: str, cloud: SimulatedCloud) -> None:
        if self.truth.lives[instance].ended_at is None:
            self._tell("taken back", "the cloud ends it", instance)
            cloud.end(instance)
            self._bury(instance, "preempted")

    def _on_terminate(self, instance: str) -> None:
        """The dispatcher ended it."""
        known = self.store.instance(instance)
        self._bury(instance, known.end_reason.code if known and known.end_reason else "orphan")

    def _on_shutdown(self, cloud: SimulatedCloud, instance: str) -> None:
        """It ended itself."""
        cloud.end(instance)
        self._bury(instance, "shutdown")

    def _on_start(self, task: Task) -> None:
        job = self._jobs.get(task.id)
        if job and job.instances > 1:
            self._launch_nodes(task, job)
        if task.id in self._held or task.gang in self._held:
            self.request_pass(self.agenda.at)  # its machine may be held for the next

    def _launch_nodes(self, task: Task, job: Submission) -> None:
        """As `Task.launch_multi_node` of the SDK does: the first task puts clones of itself into its own queue."""
        self._nodes += 1
        for rank in range(1, job.instances):
            node = f"{task.id}.{self._nodes}.{rank}"
            self._durations[node] = timedelta(seconds=job.duration_s)
            self.server.add(node, id=node, tags=job.tags, user=job.user, gang=task.id)
            self.server.enqueue(node, job.queue)

    def _bury(self, instance: str, why: str) -> None:
        self._machines.pop(instance).killed(why)
        if any(run.ended_at is None for run in self.store.runs(instance=instance)):
            self._unswept.add(instance)
        is_urgent = why != "shutdown" or instance in self._unswept or self._is_at_a_limit or self._has_levels
        self.request_pass(self.agenda.at if is_urgent else self.agenda.at + NO_HURRY)
        # What went before the list showed it is believed to live until the list should have shown it.
        shown_at = self.truth.lives[instance].launched_at + self.setting.faults.list_lag
        if shown_at > self.agenda.at:
            self.request_pass(shown_at)

    def _on_queue_change(self) -> None:
        if self._is_fair and self._is_anybody_waiting:
            self.request_pass(self.agenda.at)
        # What changes while all look is seen when they look next.
        self._tick(self._soon if self._is_ticking else self.agenda.at)
        if self._has_levels:
            self.request_pass(self.agenda.at)

    def _on_store_change(self, kind: str) -> None:
        """As the centre's loop is woken by its store."""
        if kind == "orders" or self._has_levels:
            self.request_pass(self.agenda.at)
        elif kind == "turns":
            self._peeked = -1  # all look again
            self._tick(self._soon if self._is_ticking else self.agenda.at)
        elif self._is_gang_waiting or (kind == "runs_ended" and self._is_fair and self._is_anybody_waiting):
            self.request_pass(self.agenda.at)
        elif kind == "runs_ended" and self._is_idle_auto:
            self.request_pass(self.agenda.at)  # how long its machine stays depends on how many others are idle
        elif kind in ("enrolled", "goodbye", "runs_ended"):
            # Where spot may take over, a machine that falls idle is soon asked to make way.
            self.request_pass(self.agenda.at + (timedelta(0) if self._is_mixed else NO_HURRY))

    # --- the fleet's turn

    def request_pass(self, at: datetime, *, is_after: bool = False) -> None:
        """A pass is due at the first tick from `at` on; `is_after`: after it, for deadlines that have to be exceeded."""
        # What a pass itself brings about is for the next one: two at one instant would share their id.
        at += MOMENT if is_after else timedelta(0)
        due = self._next_tick(max(at, self._soon) if self._is_ticking else at)
        if due <= self._next_tick(self._soon):
            self._pass_at = min(due, self._pass_at or due)
            self._tick(due)
        elif due not in self._promised:
            self._promised.add(due)
            self.agenda.add(due, partial(self._keep_promise, due))

    def _keep_promise(self, due: datetime) -> None:
        self._promised.discard(due)
        self.request_pass(due)

    @property
    def _soon(self) -> datetime:
        """Not at this tick, but at the next."""
        return self.agenda.at + MOMENT

    def _tick(self, at: datetime) -> None:
        due = self._next_tick(at)
        if self._tick_at is None or due < self._tick_at:
            self._tick_at = due
            self.agenda.add(due, self._on_tick, Turn.FLEET)

    def _next_tick(self, at: datetime) -> datetime:
        interval = self.setting.policy.poll_interval
        return EPOCH - (EPOCH - at) // interval * interval

    def _on_tick(self) -> None:
        at = self.agenda.at
        if self._tick_at != at:
            return
        self._tick_at, self._is_ticking = None, True
        self._peek_all()
        if self._has_gone_astray():
            self._pass_at = min(at, self._pass_at or at)
        if self.server.unseen or (self._pass_at is not None and self._pass_at <= at):
            self._pass_at = None
            if self._passed_at == at:  # a machine that boots in no time enrolls right after the pass that launched it
                self.request_pass(self._soon)
            else:
                self._pass_once()
        self._is_ticking = False
        if self.setting.is_dense and self._has_future():
            self.request_pass(self._soon)

    def _has_gone_astray(self) -> bool:
        """Whether a task took room that was planned for another: that one may need a machine now."""
        fresh, self._started = self.truth.attempts[self._started :], len(self.truth.attempts)
        strangers = {a.instance for a in fresh if self._planned.pop(a.task, None) != a.instance}
        return bool(strangers) and not strangers.isdisjoint(self._planned.values())

    def _pass_once(self) -> None:
        self._passes += 1
        self._passed_at = self.agenda.at
        unseen, self.server.unseen = self.server.unseen, {}
        try:
            self._made = made = self.dispatcher.run_pass()
        except NotLeading:
            self.server.unseen |= unseen
            self.request_pass(self._soon)
            return
        except DispatcherKilled:
            self._restart()
            return
        self._is_anybody_waiting = bool(made.waiting)
        self._is_gang_waiting = any(w.reason.code == "gang" for w in made.waiting)
        self._held = frozenset(hold.task for hold in made.turns.holds)
        self._planned = {w.task: w.instance for w in made.waiting if w.instance}
        if self.telling:
            self.telling.plan(made)
        if self.dispatcher.listening_since == self.agenda.at and self._machines:
            self._deadlines.of_a_new_dispatcher(self.agenda.at)
        self._is_at_a_limit = any(not w.instance and w.reason.code != "no_fit" for w in made.waiting)
        for action in made.actions:
            if not isinstance(action, Launch) and action.instance in self._machines:
                self._machines[action.instance].step()  # it hears its orders
        for instance, _ in made.standings:
            if instance in self._machines:
                self._machines[instance].step()
        is_call_due = self._are_calls_due()
        there = self.store.instances(self._world.cluster) if is_call_due else ()
        self._deadlines.of_late_answers(self.agenda.at, self.store.instance, there)
        if is_call_due or any(self._is_undone(action) for action in made.actions):
            self.request_pass(self._soon)
        for pause in self.dispatcher.backoffs.at(self.agenda.at):
            if not pause.is_probing:
                self.request_pass(pause.until)
        self._give_levels(made)
        if made.wake_at is not None:
            self.request_pass(made.wake_at)
        if self.dispatcher.reconciler.orphans:
            self.request_pass(self.agenda.at + ORPHAN_GRACE)
        self._see_to_the_sweep()
        self._settle(made)

    def _give_levels(self, made: Plan) -> None:
        """Who is kept, or not any more, hears it."""
        changed, self._kept = made.kept ^ self._kept, made.kept
        for instance in sorted(changed):
            if instance in self._machines:
                self._machines[instance].step()

    def _is_undone(self, action: Action) -> bool:
        """Whether the next pass has to see to it again: a launch that failed, an order to end that was not heard."""
        known = self.store.instance(action.instance)
        if isinstance(action, Launch):
            return known is None or known.launched_at is None
        return isinstance(action, Terminate)

    def _see_to_the_sweep(self) -> None:
        """What machines took with them is put back by a sweep after the pass that finds them gone."""
        at, swept_at = self.agenda.at, self.dispatcher.swept_at
        if any((i := self.store.instance(name)) and not i.gone_at for name in self._unswept):
            self.request_pass(self._soon)
        elif self._unswept and swept_at is not None and swept_at < at:
            self.request_pass(swept_at + SWEEP_EVERY)
        else:
            self._unswept.clear()

    def _are_calls_due(self) -> bool:
        is_due = any(cloud.is_repeat_due for cloud in self._clouds.values())
        if is_due:
            self._tell("no answer", "a call to the cloud was not answered; it will be repeated")
        for cloud in self._clouds.values():
            cloud.is_repeat_due = False
        return is_due

    def _peek_all(self) -> None:
        """Supervisors look into the queues if anything changed there since, in an order that nobody rules."""
        if self._peeked == self.server.version:
            return
        self._peeked = self.server.version
        able = [machine for machine in self._machines.values() if machine.has_use_for]
        self._order.shuffle(able)
        for machine in able:
            if machine.has_use_for:
                machine.step()

    def _new_dispatcher(self) -> Dispatcher:
        parts = Parts(
            store=self.store,
            demand=self.server,
            providers=self._clouds,
            now=self.agenda.now,
            # By time, not by count: so many passes more or less must not rename the machines.
            new_id=lambda: f"p{(self.agenda.at - EPOCH) // timedelta(milliseconds=1):014}",
            join_secret=b"simulated",
        )
        return Dispatcher(parts, self.setting.policy, f"dispatcher {self._restarts}")

    def _restart(self) -> None:
        """kill -9, and a new start: all that it had in memory is gone."""
        self._restarts += 1
        self._tell("dispatcher killed", "kill -9, and a new start: it forgets all but its store")
        self.dispatcher = self._new_dispatcher()
        self.request_pass(self._soon)

    def _plan_restart(self) -> None:
        wait = self.setting.faults.wait(self.setting.faults.dispatcher_life, "dispatcher dies", self._restarts)
        if wait is not None and self._has_future():
            self.agenda.add(self.agenda.at + wait, self._on_restart)

    def _on_restart(self) -> None:
        self._restart()
        self._plan_restart()

    def _cloud(self) -> SimulatedCloud:
        setting = self.setting
        return SimulatedCloud(
            setting.offers,
            self.agenda,
            setting.faults,
            self.truth,
            on_launch=self._on_launch,
            on_end=self._on_terminate,
        )

    # --- the end

    def _has_future(self) -> bool:
        return bool(
            self._unsubmitted or self._machines or self.truth.running or self.store.instances(self._world.cluster)
        )

    def _settle(self, made: Plan) -> None:
        """From the moment when no task will ever start any more, machines have the time to end, and no longer."""
        if self._unsubmitted or self.truth.running or any(w.reason.code != "no_fit" for w in made.waiting):
            self._settled_until = None
        elif self._settled_until is None:
            idle = [r.idle_timeout for r in self.setting.policy.resources if r.idle_timeout]
            idle += [timedelta(seconds=max(IDLE_CHOICES_S))] if self._is_idle_auto else []
            boot = max(r.boot_timeout for r in self.setting.policy.resources)
            self._settled_until = self.agenda.at + max(idle, default=timedelta(0)) + boot + LAST_WORDS
            self.agenda.add(self._settled_until, lambda: None)  # time goes on till then, whatever else happens

    def _is_over(self, next_at: datetime) -> bool:
        if self._settled_until is not None and next_at > self._settled_until:
            return True
        if len(self.truth.completed) > self._finished:
            self._finished, self._progress_at = len(self.truth.completed), self.agenda.at
        return not self._unsubmitted and next_at - self._progress_at > self._patience


def _longest_window(budget: Budget) -> timedelta:
    """How long a fleet may do nothing because its money is spent."""
    parts = (budget, *budget.queues.values(), *budget.users.values(), *filter(None, [budget.per_user]))
    if any(part.usd_per_month is not None for part in parts):
        return timedelta(days=31)
    return timedelta(days=any(part.usd_per_day is not None for part in parts))


def _queues_of(resource: str, queues: Sequence[Queue]) -> tuple[Queue, ...]:
    """Those that this resource serves, the most urgent first."""
    return tuple(sorted((q for q in queues if resource in q.resources), key=lambda q: -q.priority))


def _has_levels(policy: Policy) -> bool:
    is_kept = any(r.min_instances or r.schedule for r in policy.resources)
    return is_kept or any(q.headroom or q.schedule for q in policy.queues) or bool(policy.budget.schedule)
