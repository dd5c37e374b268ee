"""The simulation: the real planner, dispatcher passes and supervisor decisions in virtual time, on a fake cloud.

A dispatcher passes at the ticks of its poll interval, as it does in life, but only at those where a plan may come out
differently: a task waits that it has not seen, a machine came, went or has less to do while somebody waits or another is idle,
something was learned, something failed, a deadline is due. Where nothing can go wrong a pass looks at no cloud (`glance`). All
else is seen at the next whole pass, hours later at most. `is_dense` makes a whole one at every tick instead; on sixteen made
workloads of some days it came to the same bill, to the cent, and to the same waits.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from fleet.dispatcher.parts import Parts
from fleet.dispatcher.passes import SWEEP_EVERY, Dispatcher
from fleet.dispatcher.reconcile import ORPHAN_GRACE
from fleet.errors import NotLeading
from fleet.model import Action, Launch, MarketPolicy, Plan, Task, Terminate
from fleet.planner.fairness import is_fair
from fleet.providers.base import LaunchOrder
from fleet.simulate.agenda import EPOCH, Agenda
from fleet.simulate.cloud import DispatcherKilled, SimulatedCloud
from fleet.simulate.deadlines import Deadlines
from fleet.simulate.ending import Ending
from fleet.simulate.fates import Fates
from fleet.simulate.glance import Glances
from fleet.simulate.machine import Machine
from fleet.simulate.outcome import outcome_of
from fleet.simulate.park import Park
from fleet.simulate.server import Lookouts, SimulatedServer
from fleet.simulate.setting import Outcome, Setting, has_levels, has_limits
from fleet.simulate.starts import Starts
from fleet.simulate.story import Listener, Telling, store_of
from fleet.simulate.submissions import Submissions
from fleet.simulate.surroundings import World
from fleet.simulate.ticks import Ticks
from fleet.simulate.truth import Truth
from fleet.supervisor import situation

# As the centre tells its supervisors: shorter than the reaper's patience, so that a machine that is cut off ends first.
CONTACT_TIMEOUT = timedelta(seconds=120)
# How late a pass may be that would find nothing to do: every pass begins by looking at everything.
NO_HURRY = timedelta(hours=1)
LEAST_HURRY = timedelta(hours=6)  # where a glance does for nearly all


class Simulation:
    """One run, from the first submission until nothing more can happen."""

    def __init__(self, setting: Setting, listener: Listener | None = None) -> None:
        self.setting = setting
        self.agenda = Agenda()
        self.truth = Truth(checkpoint=setting.checkpoint)
        self.server = SimulatedServer(self.agenda.now, self._on_queue_change)
        self.telling = Telling(listener, self.agenda.now) if listener else None
        self.store = store_of(self._on_store_change, self.telling)
        self._submissions = Submissions(setting.workload, self.agenda, self.server, self.truth)
        self._ending = Ending(setting.policy, self.agenda, self.truth, self._submissions.jobs)
        self._world = World(
            cluster=setting.policy.cluster,
            agenda=self.agenda,
            server=self.server,
            store=self.store,
            truth=self.truth,
            faults=setting.faults,
            duration_of=self._submissions.lasts,
            is_kept=lambda instance: instance in self._kept,
            on_start=self._on_start,
        )
        self._clouds = {name: self._cloud() for name in dict.fromkeys(r.provider for r in setting.policy.resources)}
        self._lookouts = Lookouts(self.server, setting.policy.queues)
        self._ticks = Ticks(self.agenda, setting.policy.poll_interval, self._on_tick)
        self.request_pass = self._ticks.request_pass
        self._deadlines = Deadlines(setting.policy.resources, self.request_pass)
        self._machines = Park(self._world.spare, self._lookouts, setting.faults.seed)
        self.fates = Fates(setting, self.agenda, self._deadlines, self._tell, self._machines.__contains__)
        self._is_mixed = any(r.market is MarketPolicy.SPOT_THEN_ON_DEMAND for r in setting.policy.resources)
        self._passed_at: datetime | None = None
        self._unswept: set[str] = set()  # machines that took tasks with them
        self._ended = 0  # so many runs
        self._has_moved = False  # a machine, since the last tick
        self._is_at_a_limit = False  # a task waits for something to go
        self._is_fair = is_fair(setting.policy.queues, setting.policy.fairness)
        self._is_anybody_waiting = False
        self._is_gang_waiting = False
        self._held: frozenset[str] = frozenset()  # tasks for which machines are held
        self._starts = Starts(self.truth, self._machines, self._world.duration_of)
        self._tell_by: datetime | None = None  # then levels that have changed begin to matter
        self._peeked = 0
        self._made: Plan | None = None
        self._kept: frozenset[str] = frozenset()  # by the orders of the last plan
        # A fleet that keeps room free may have something to do whenever a task starts or ends.
        self._has_levels = has_levels(setting.policy)
        self._has_limits = has_limits(setting.policy)
        self._glances = Glances(setting)
        # What a story tells of each machine is when the fleet noticed it: then every pass is a whole one.
        is_exact = self._has_levels or self._is_fair or listener or setting.is_dense
        self._may_glance = self._glances.are_possible and not is_exact
        self._passes = 0
        self._restarts = 0
        self.dispatcher = self._new_dispatcher()

    def run(self) -> Outcome:
        """Until every task is settled and every machine has ended, or nothing will change any more."""
        self.server.ensure_queues([queue.name for queue in self.setting.policy.queues])
        self._submissions.plan(self._ending)
        self.request_pass(EPOCH)
        self._plan_restart()
        while (at := self.agenda.next_at()) is not None and not self._ending.is_over(at, self._submissions.left):
            self.agenda.step()
        return outcome_of(
            policy=self.setting.policy,
            tasks=self._submissions.jobs,
            truth=self.truth,
            server=self.server,
            store=self.store,
            waiting=self._made.waiting if self._made else (),
            ended_at=self.agenda.at,
            passes=self._passes,
        )

    # --- what happens

    def _on_launch(self, order: LaunchOrder, cloud: SimulatedCloud) -> None:
        """The cloud starts a machine, and its fate is drawn."""
        resource = order.resource
        policy = situation.Policy(
            queues=self._lookouts.serve(resource.name),
            idle_timeout=resource.idle_timeout,
            contact_timeout=CONTACT_TIMEOUT,
            max_lifetime=resource.max_lifetime,
        )
        end = partial(self._on_shutdown, cloud)
        machine = Machine(order, self._world, policy, self._lookouts, end, len(self.truth.lives))
        self._machines[order.instance] = machine
        self.fates.of_launch(machine, order, partial(self._on_taken, order.instance, cloud))

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
        self._submissions.launch_nodes(task)
        if task.id in self._held or task.gang in self._held:
            self.request_pass(self.agenda.at)  # its machine may be held for the next

    def _bury(self, instance: str, why: str) -> None:
        self._machines.pop(instance).killed(why)
        if any(run.ended_at is None for run in self.store.runs(instance=instance)):
            self._unswept.add(instance)
        if why != "shutdown" or instance in self._unswept or self._is_at_a_limit or self._has_levels:
            self.request_pass(self.agenda.at)
        else:
            self._note_move()
        # What went before the list showed it is believed to live until the list should have shown it.
        shown_at = self.truth.lives[instance].launched_at + self.setting.faults.list_lag
        if shown_at > self.agenda.at:
            self.request_pass(shown_at)

    def _on_queue_change(self) -> None:
        if self._is_fair and self._is_anybody_waiting:
            self.request_pass(self.agenda.at)
        self._ticks.request_tick()
        if self._has_levels:
            self.request_pass(self.agenda.at)

    def _on_store_change(self, kind: str) -> None:
        """As the centre's loop is woken by its store."""
        if kind == "runs_ended":
            self._ended += 1
            if lesson_at := self.dispatcher.learner.lesson_at(self._ended, self.agenda.at):
                self.request_pass(lesson_at)
        is_next_one_up = kind == "runs_ended" and self._is_fair and self._is_anybody_waiting
        if kind == "turns":
            self._peeked = -1  # all look again
            self._ticks.request_tick()
        elif kind == "orders" or self._has_levels or self._is_gang_waiting or is_next_one_up:
            self.request_pass(self.agenda.at)
        elif kind == "enrolled":
            self._starts.note_enrolled()
            self._ticks.request_tick()
        elif kind in ("goodbye", "runs_ended"):
            self._note_move()

    def _note_move(self) -> None:
        """A machine is there that was not, or has less to do, or is gone: at the next tick it is seen what that means."""
        self._has_moved = True
        self._ticks.request_tick()

    # --- the fleet's turn

    def _on_tick(self) -> None:
        self._peek_all()
        has_moved, self._has_moved = self._has_moved, False
        is_astray, has_come, matters_at = self._starts.look(self.agenda.at)
        has_news = is_astray or bool(self.server.unseen)
        if (has_moved or has_come) and not has_news and self._may_glance and self._starts.is_as_planned():
            has_moved = has_come = False
        has_moved |= has_come or (matters_at is not None and not self._is_put_off(matters_at))
        is_urgent = has_news or (has_moved and self._does_it_matter())
        if is_urgent and not self._ticks.is_pass_due and self._has_glanced():
            is_urgent = False
        if has_moved and not is_urgent:
            self._ticks.request_pass_by(self.agenda.at + (LEAST_HURRY if self._may_glance else NO_HURRY))
        if self._ticks.take_pass(is_urgent=is_urgent):
            if self._passed_at == self.agenda.at:  # a machine that boots in no time enrolls right after its launch
                self.request_pass(self._ticks.soon)
            else:
                self._pass_once()
        if self.setting.is_dense and self._has_future():
            self.request_pass(self._ticks.soon)

    def _does_it_matter(self) -> bool:
        """Whether a plan may come out differently because a machine came, went or has less to do: who waits may get it, and
        how long those that are idle stay, and what they take, depends on how many there are."""
        return self._is_anything_queued or self._machines.is_any_idle

    @property
    def _is_anything_queued(self) -> bool:
        return bool(self.server.waiting(self.setting.policy.queues))

    def _is_put_off(self, matters_at: datetime) -> bool:
        """Whether the next plan, whenever it comes, is early enough; one comes in time."""
        by = matters_at - 2 * self.setting.policy.poll_interval
        if not self._may_glance or self._is_gang_waiting or self._held or by <= self.agenda.at:
            return False
        if self._tell_by is None or by < self._tell_by:
            self._tell_by = by
            self.agenda.add(by, partial(self._tell_now, by))
        return True

    def _tell_now(self, by: datetime) -> None:
        if self._tell_by == by:
            self._note_move()

    def _pass_once(self) -> None:
        self._passes += 1
        self._passed_at = self.agenda.at
        unseen, self.server.unseen = self.server.unseen, {}
        try:
            self._made = made = self.dispatcher.run_pass()
        except NotLeading:
            self.server.unseen |= unseen
            self.request_pass(self._ticks.soon)
            return
        except DispatcherKilled:
            self._restart()
            return
        if self.telling:
            self.telling.plan(made)
        if self.dispatcher.listening_since == self.agenda.at and self._machines:
            self._deadlines.of_a_new_dispatcher(self.agenda.at)
        for action in made.actions:
            if not isinstance(action, Launch) and action.instance in self._machines:
                self._machines[action.instance].step()  # it hears its orders
        self._take_in(made)
        is_call_due = self._are_calls_due()
        there = self.store.instances(self._world.cluster) if is_call_due else ()
        self._deadlines.of_late_answers(self.agenda.at, self.store.instance, there)
        is_undone = any(self._is_undone(action) for action in made.actions)
        if is_call_due or is_undone:
            self.request_pass(self._ticks.soon)
        for pause in self.dispatcher.backoffs.at(self.agenda.at):
            if not pause.is_probing:
                self.request_pass(pause.until)
        if self.dispatcher.reconciler.orphans:
            self.request_pass(self.agenda.at + ORPHAN_GRACE)
        self._see_to_the_sweep()

    def _has_glanced(self) -> bool:
        """Whether a glance was enough for what has come and moved, and a whole pass is not needed."""
        if not self._may_glance or self._is_gang_waiting or self._unswept or self._passed_at == self.agenda.at:
            return False
        waiting = self.server.waiting(self.setting.policy.queues)
        made = self._glances.made(self.dispatcher, waiting)
        if made is None:
            return False
        self._passed_at, self._made, self.server.unseen = self.agenda.at, made, {}
        self._take_in(made)
        return True

    def _take_in(self, made: Plan) -> None:
        """Machines hear their levels, and what the plan says of those who wait rules until the next."""
        self._is_anybody_waiting = bool(made.waiting)
        self._is_gang_waiting = any(w.reason.code == "gang" for w in made.waiting)
        self._held = frozenset(hold.task for hold in made.turns.holds)
        self._starts.expect(made)
        self._tell_by = None
        self._is_at_a_limit = any(not w.instance and w.reason.code != "no_fit" for w in made.waiting)
        for instance, _ in made.standings:
            if instance in self._machines:
                self._machines[instance].hear_levels()
        # At a limit that these launches have reached nothing smaller can be had any more: large machines may take what waits.
        if made.actions and self._has_limits:
            self._note_move()
        # Who waits for somebody's machine to become free is looked at again when others were launched.
        if made.actions and any(not w.instance and w.reason.code == "soon_free" for w in made.waiting):
            self.request_pass(self._ticks.soon)
        self._give_levels(made)
        self._ticks.wake_at(made.wake_at)
        self._ending.settle(made, self._submissions.left)

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
            self.request_pass(self._ticks.soon)
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
        if not self._is_anything_queued:
            return
        self._machines.look(self.agenda.at)

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
        self.request_pass(self._ticks.soon)

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

    # --- what is to come

    def _has_future(self) -> bool:
        return bool(
            self._submissions.left or self._machines or self.truth.running or self.store.instances(self._world.cluster)
        )
