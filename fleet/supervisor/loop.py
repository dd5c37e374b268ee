"""The shell of the edge: facts come in as events, `decide` says what to do, and this carries it out.

The main thread never waits for a network or a hook. Other threads do, each with one job:
    server    calls of the ClearML server: claim, peek, watch, report    console  reads what agents print
    centre    heartbeats                                                 sender   tells the server of tasks
    hints     waits for the dispatcher's word that work may wait            notices  asks the cloud for its warnings
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from agent_hooks.hooks import HookFailure, Moment
from agent_hooks.host import HostReading, cpus
from fleet.errors import AgentUnusable
from fleet.model import Reason, Task
from fleet.supervisor import events
from fleet.supervisor.calls import HOLD_EVERY, Worker, worker_base, worker_of
from fleet.supervisor.claims import FIRST_LOOK, depth_to_look
from fleet.supervisor.clock import Clock
from fleet.supervisor.decide import decide, is_last_look_due, next_deadline
from fleet.supervisor.goodbye import say_goodbye
from fleet.supervisor.instructions import Claim, EndMachine, Instruction, ResumePulling, StopPulling, StopTask
from fleet.supervisor.levels import first_policy, must_look_again, policy_under
from fleet.supervisor.memory import Remembered
from fleet.supervisor.parts import Parts
from fleet.supervisor.precedence import first_seen
from fleet.supervisor.processes import reap_orphans
from fleet.supervisor.situation import State
from fleet.supervisor.stats import vitals_of
from fleet.supervisor.timetable import Timetable
from fleet.supervisor.unserved import Unserved
from fleet.supervisor.vigil import vigil_every
from fleet.supervisor.wiring import wire
from fleet.wire import Heartbeat, Orders

log = logging.getLogger(__name__)

WATCH_EVERY = timedelta(seconds=2)  # an abort is seen this soon
METER_EVERY = timedelta(seconds=2)
SHORTEST_BEAT = timedelta(seconds=1)
REPORT_EVERY = timedelta(seconds=30)  # as the stock agent
BURY_EVERY = timedelta(seconds=60)
CALM_AFTER_CRASH_S = 1.0
THREAD_STACK_BYTES = 512 * 1024


class Supervisor:
    """One machine, from its enrolment to its end."""

    def __init__(self, parts: Parts) -> None:
        self._parts, enrolled = parts, parts.enrolled
        clock = self._clock = Clock()
        now = clock.now()
        before = self._before = Remembered.of(parts.memory.times, self._clock)
        wired = self._wired = wire(parts, clock, before)
        self._inbox, self._contact, self._calls = wired.inbox, wired.contact, wired.calls
        self._moments, self._meter, self._work = wired.moments, wired.meter, wired.work
        self._vacancies, self._vigil, self._listening = wired.vacancies, wired.vigil, wired.listening
        self._sight, self._cpus = self._calls.sense(), cpus()
        queues, gpus = tuple(queue.name for queue in enrolled.queues), tuple(gpu.uuid for gpu in self._sight.gpus)
        self._own = Worker(id=worker_base(enrolled), task=None, queues=queues, gpus=gpus)
        self._policy = first_policy(enrolled)
        self._host: HostReading | None = None
        self._unserved = None if parts.centre.is_remote else Unserved()
        self._waiting: tuple[Task, ...] = ()
        self._seen_at: dict[str, datetime] = {}
        self._depth = FIRST_LOOK
        self._peeked_at: datetime | None = None
        self._idle_since: datetime | None = before.idle_since or now
        self._has_started_up = False
        self._drain: Reason | None = None  # as the centre orders it now
        self._drain_by: datetime | None = None
        self._own_drain: Reason | None = None
        self._end: Reason | None = None
        self._stopped_pulling: Reason | None = None
        self._is_stopped_for_good = False
        self._ending: Reason | None = None
        self._timetable = Timetable(("peek", "watch", "report", "beat", "bury", "meter", "vigil", "hold"), now)

    # --- from start to end

    def run(self) -> Reason:
        """Work until this machine has no more purpose, say goodbye, and tell why it ends. Called by the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self._inbox.put(events.Signalled(number=number)))
        threading.stack_size(THREAD_STACK_BYTES)
        for name, step in self._wired.steps.items():
            threading.Thread(target=_for_ever, args=(step,), name=name, daemon=True).start()
        self._go_on()
        self._calls.register(self._own)
        threading.Thread(target=self._warm_up, name="warm up", daemon=True).start()
        if self._before.has_started_up:  # since this boot: what the hooks set up is there
            self._inbox.put(events.StartedUp(failure=None))
        else:
            self._moments.run(Moment.STARTUP, {}, lambda failure: events.StartedUp(failure=failure))
        self._parts.signs.ready(f"instance {self._parts.enrolled.instance}")
        while self._ending is None:
            _safely(self._turn)
        self._parts.signs.ending(self._ending.text)
        say_goodbye(self._ending, self._parts, self._wired, self._own.id, self._facts, self._clock)
        return self._ending

    def _warm_up(self) -> None:
        try:
            self._parts.runner.warm_up()
        except AgentUnusable as error:
            self._inbox.put(events.Refused(reason=Reason(code="agent_unusable", text=str(error))))

    def _go_on(self) -> None:
        """Where a supervisor before us was killed. Its deadlines count on, so that restarts cannot put them off for ever."""
        for legacy in self._parts.memory.legacies:
            self._work.restore(legacy)
        if self._work.jobs:
            self._idle_since = None
        if self._contact.is_overdue(self._clock.now(), self._policy.contact_timeout):
            self._calls.knock(self._policy.queues)

    def _turn(self) -> None:
        """Take in what happened, decide, act, and wait for what happens next."""
        for event in self._inbox.take(self._seconds_to_next(self._clock.now())):
            self._handle(event)
        now = self._clock.now()
        self._work.on_time(now)
        self._parts.memory.remember(
            self._clock, self._before.enrolled_at, self._contact, self._idle_since, has_started_up=self._has_started_up
        )
        self._own_drain = self._own_drain or self._parts.memory.why_drain()
        state = self._state(now)
        for instruction in self._vacancies.admitted(decide(state, self._policy), now):
            self._carry_out(instruction)
        if is_last_look_due(state, self._policy):
            self._hurry("peek")
        self._ask_what_is_due(now)
        self._parts.signs.alive()  # of a turn that was whole: a loop whose every turn fails is as good as hung

    def _seconds_to_next(self, now: datetime) -> float:
        due = [at for name, at in self._timetable.due() if self._is_wanted(name)]
        due += self._vacancies.times()
        due += filter(None, [self._work.next_time(), next_deadline(self._state(now), self._policy)])
        return max((min(due) - now).total_seconds(), 0.0)

    def _state(self, now: datetime) -> State:
        return State(
            at=now,
            enrolled_at=self._before.enrolled_at,
            gpus=self._vacancies.marked(tuple(gpu for gpu in self._sight.gpus if not gpu.sick)),
            sick={gpu.uuid: gpu.sick for gpu in self._sight.gpus if gpu.sick},
            links=self._vacancies.links,
            cpus=self._cpus,
            held=tuple(job.held for job in self._work.jobs.values()),
            unsent=frozenset(job.task.id for job in self._work.unsettled.values()),
            waiting=self._waiting if self._has_started_up else (),
            seen_at=self._seen_at,
            peeked_at=self._peeked_at,
            idle_since=self._idle_since if self._has_started_up else None,
            server_seen_at=self._contact.server_at,
            centre_seen_at=self._contact.centre_at,
            drain=self._own_drain or self._drain,
            drain_by=self._drain_by,
            end=self._end,
            stopped_pulling=self._stopped_pulling,
            is_stopped_for_good=self._is_stopped_for_good,
            failed_starts=self._work.setbacks.by_task,
            served=self._work.served,
            has_started_up=self._has_started_up,
            awake_at=self._vigil.awake_at,
            notice=self._listening.standing,
        )

    # --- what is due

    def _is_wanted(self, name: str) -> bool:
        if name == "peek":
            return self._is_pulling and not self._calls.server.has("peek")
        if name == "watch":
            return any(job.is_running for job in self._work.jobs.values()) and not self._calls.server.has("watch")
        if name == "beat":
            return not self._calls.dispatcher.has("beat")
        if name == "meter":
            return any(job.has_share for job in self._work.jobs.values()) and not self._meter.is_busy
        if name == "hold" and not self._work.starting:
            return False
        if name == "vigil":
            return self._vigil.is_wanted and self._idle_since is not None and self._policy.idle_timeout is not None
        return name == "bury" or not self._calls.server.has(name)

    @property
    def _is_pulling(self) -> bool:
        return self._has_started_up and self._stopped_pulling is None and self._end is None

    def _hurry(self, name: str, at_most_every: timedelta = timedelta(0)) -> None:
        self._timetable.hurry(name, self._clock.now(), at_most_every)

    def _ask_what_is_due(self, now: datetime) -> None:
        enrolled, jobs = self._parts.enrolled, self._work.jobs.values()
        if self._take("peek", now, enrolled.poll_interval):
            self._calls.peek(self._policy.queues, self._depth)
        if self._take("watch", now, WATCH_EVERY):
            self._calls.watch([job for job in jobs if job.is_running])
        if self._take("report", now, REPORT_EVERY):
            self._calls.report(
                [self._own, *(worker_of(job) for job in jobs if job.is_running and not job.is_elsewhere)]
            )
        if self._take("beat", now, enrolled.heartbeat_interval):
            self._calls.beat(self._facts())
        if self._take("meter", now, METER_EVERY):
            self._meter.look([job.key for job in jobs if job.has_share])
        if self._take("hold", now, HOLD_EVERY):
            self._calls.hold(self._work.starting)
        if self._take("vigil", now, vigil_every(self._policy.idle_timeout)):
            self._vigil.look(now)
        if self._take("bury", now, BURY_EVERY) and not self._moments.is_busy:
            agents = {job.agent.pid for job in jobs if job.agent}
            reap_orphans(frozenset(agents | {self._parts.guard.pid}))

    def _take(self, name: str, now: datetime, every: timedelta) -> bool:
        return self._is_wanted(name) and self._timetable.take(name, now, every)

    def _facts(self) -> Heartbeat:
        return Heartbeat(
            instance=self._parts.enrolled.instance,
            at=self._clock.now(),
            is_pulling=self._is_pulling,
            is_ending=self._ending is not None,
            reason=self._ending or self._stopped_pulling or (self._vigil.reason if self._idle_since else None),
            idle_since=self._idle_since,
            allocations=tuple(job.allocation for job in self._work.jobs.values() if job.is_ours),
            runs=self._work.runs(),
            gpus=self._vacancies.marked(self._sight.gpus),
            vitals=vitals_of(self._host) if self._host else None,
            notice=self._listening.standing,
        )

    # --- what happened

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.Hinted():
                self._hurry("peek")
                # It may be an order; but a hint goes to every machine, and a heartbeat is not free.
                self._hurry("beat", at_most_every=SHORTEST_BEAT)
            case events.Ordered():
                self._obey(event.orders, event.to)
            case events.Refused():
                self._end = self._end or event.reason
            case events.Peeked():
                self._waiting, self._peeked_at = event.tasks, event.asked_at
                self._seen_at = first_seen(self._seen_at, event.tasks, self._clock.now())
                if self._unserved:
                    self._unserved.look(event.tasks, self._sight.gpus, self._policy.queues)
                self._look_deeper()
            case events.Watched():
                self._work.on_watched(event)
            case events.Failed():
                log.warning("call failed", extra={"call": event.errand, "error": str(event.error)})
            case events.Sensed():
                self._sight, self._host = self._sight.or_later(event.sight), event.host
            case events.Ailing():
                self._sight = self._sight.or_later(event.sight)
                self._hurry("report")
                self._hurry("beat")
            case events.Metered():
                self._work.on_metered(event)
            case events.Looked():
                self._vacancies.on_looked(event, self._clock.now())
            case events.FoundAwake():
                self._vigil.on_found(event)
            case events.Noticed():
                self._listening.on_noticed(event.notice, self._moments)
                self._hurry("beat")
            case events.StartedUp():
                self._on_started_up(event.failure)
            case events.Signalled():
                self._on_signal(event.number)
            case _:
                self._handle_job(event)

    def _handle_job(self, event: events.Event) -> None:
        """Events of one job. What changes its stage is told to the centre at once."""
        match event:
            case events.Claimed():
                self._waiting = tuple(t for t in self._waiting if t.id != self._work.jobs[event.key].task.id)
                self._work.on_claimed(event)
                if len(self._work.starting) == 1:
                    self._timetable.put_off("hold", self._clock.now() + HOLD_EVERY)
                if event.is_ours:
                    self._hurry("peek")  # more may wait than was shown
            case events.Prepared():
                self._work.on_prepared(event.key, event.failure)
            case events.Started():
                self._work.on_started(event)
            case events.Announced():
                if job := self._work.jobs.get(event.key):
                    job.announced_at = event.at
                    self._work.note(job)
                    if event.is_ours:  # else the server would take us for the one that runs it
                        self._calls.register(worker_of(job))
                return
            case events.Exited():
                self._work.on_exited(event.key)
            case events.Silent():
                self._work.on_silent(event.key)
            case events.CleanedUp():
                self._calls.unregister(self._work.jobs[event.key].worker)
                self._work.on_cleaned_up(event.key, event.failure)
                self._hurry("peek")
            case events.Settled():
                self._work.on_settled(event.key, event.result)
            case events.Asked():
                self._work.on_asked(event.key)
                return
            case events.Unasked():
                self._work.on_unasked(event)
                return
        if any(job.is_ours for job in self._work.jobs.values()):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self._clock.now()
            self._hurry("vigil")
        self._hurry("beat")

    def _look_deeper(self) -> None:
        deeper = depth_to_look(self._state(self._clock.now()), self._policy, self._depth)
        if deeper > self._depth:
            self._hurry("peek")
        self._depth = deeper

    def _obey(self, orders: Orders, to: Heartbeat) -> None:
        """Orders are levels: each answer says all that is wanted now."""
        self._drain = orders.drain
        self._drain_by = to.at + orders.drain_within if orders.drain and orders.drain_within is not None else None
        self._end = self._end or orders.end
        before, self._policy = self._policy, policy_under(orders, self._policy)
        if before.queues != self._policy.queues:
            self._own = replace(self._own, queues=tuple(q.name for q in orders.queues))
            self._calls.register(self._own)
        if must_look_again(before, self._policy):
            self._hurry("peek")
        if self._work.forget_runs([run for run in to.runs if run.task in orders.runs_seen]):
            self._hurry("beat", at_most_every=SHORTEST_BEAT)

    def _on_started_up(self, failure: HookFailure | None) -> None:
        self._has_started_up = True
        if self._idle_since and not self._before.has_started_up:
            self._idle_since = self._clock.now()
        if failure:
            text = f"hook {failure.hook} failed at startup: {failure.text}"
            self._end = self._end or Reason(code="hook_failed", text=text)
        self._hurry("peek")

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        log.info("signal", extra={"signal": name})
        if self._own_drain is None:
            self._own_drain = Reason(code="signal", text=f"{name}: pull no more, end when empty")
        else:
            self._end = self._end or Reason(code="signal", text=f"{name} again: end now, put the tasks back")

    # --- what to do

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case Claim():
                chosen = tuple(gpu for gpu in self._sight.gpus if gpu.uuid in instruction.gpus)
                self._work.claim(instruction, chosen)
            case StopTask():
                self._work.stop(instruction)
            case StopPulling():
                reason, is_first = instruction.reason, self._stopped_pulling is None
                self._stopped_pulling = reason
                if is_first:
                    self._moments.tell(Moment.DRAIN, {"FLEET_REASON": reason.text})
                self._is_stopped_for_good = instruction.is_for_good
                log.info("stopped pulling", extra={"code": reason.code, "why": reason.text})
                self._hurry("beat")
            case ResumePulling():
                self._stopped_pulling = None
                log.info("pulls again: the order to drain was taken back")
                self._hurry("peek")
                self._hurry("beat")
            case EndMachine():
                self._ending = instruction.reason


def _for_ever(step: Callable[[], None]) -> None:
    while True:
        _safely(step)


def _safely(step: Callable[[], None]) -> None:
    """The one place at the edge where anything is caught: a defect in one step must not leave a machine without its end."""
    try:
        step()
    except Exception:
        log.exception("defect: going on with the next step", extra={"where": threading.current_thread().name})
        time.sleep(CALM_AFTER_CRASH_S)
