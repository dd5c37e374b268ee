"""The life of each allocation, step by step: claim, hooks, agent, stop, end, hooks, GPUs free, result told.

Every method is called by the main thread, and none of them waits: what takes long is an errand, and its event leads
to the next step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from agent_hooks.hooks import HookFailure, Moment
from fleet.errors import AgentRefused, FleetError
from fleet.model import Gpu, Run, RunResult
from fleet.queues.base import Claims
from fleet.supervisor.agents import Agent, Agents, Order
from fleet.supervisor.clock import Clock
from fleet.supervisor.console import Console
from fleet.supervisor.contact import grace
from fleet.supervisor.errands import Errands, Report, Urgency
from fleet.supervisor.events import Claimed, CleanedUp, Event, Metered, Prepared, Settled, Started, Unasked, Watched
from fleet.supervisor.instructions import Claim, StopTask
from fleet.supervisor.jobs import Job, worker_name
from fleet.supervisor.journal import Entry, entry_of
from fleet.supervisor.last_words import ANSWERS_WITHIN, LAST_WORD, ask_to_save
from fleet.supervisor.memory import Legacy, Memory
from fleet.supervisor.meter import overuse
from fleet.supervisor.moments import Moments
from fleet.supervisor.restored import lost, restored_job
from fleet.supervisor.runner import facts
from fleet.supervisor.sender import Ending, Outbox, Sender
from fleet.supervisor.setbacks import Setbacks
from fleet.supervisor.spool import Spool
from fleet.supervisor.stops import MAX_STARTS
from fleet.supervisor.untold import Untold
from fleet.supervisor.why import gpu_sick

log = logging.getLogger(__name__)

# After an agent and all it started were killed, its console ends at once, unless a stranger keeps it open.
CONSOLE_ENDS_WITHIN = timedelta(seconds=2)


class Work:
    """The jobs of this machine."""

    def __init__(
        self,
        *,
        instance: str,
        worker: str,
        claims: Claims,
        runner: Agents,
        console: Console,
        sender: Sender,
        errands: Errands,
        moments: Moments,
        clock: Clock,
        stop_grace: timedelta,
        memory: Memory,
        report: Report,
        why_sick: Callable[[Sequence[Gpu]], str | None] = lambda gpus: None,
    ) -> None:
        self._instance, self._worker = instance, worker
        self._claims, self._runner, self._console = claims, runner, console
        self._sender, self._errands, self._moments = sender, errands, moments
        self._clock, self._stop_grace, self._memory, self._report = clock, stop_grace, memory, report
        self._why_sick = why_sick
        self._count = memory.entry_count()
        self._deaths: dict[str, int] = {}  # of supervisors before us, while they held these tasks
        self._spool_of: dict[str, Spool] = {}
        self.jobs: dict[str, Job] = {}  # that hold their GPUs
        self.unsettled: dict[str, Job] = {}  # that do not, but the server does not know all of them yet
        self._untold = Untold(memory.journal)  # runs that the centre has not seen
        self.setbacks = Setbacks()
        self.served: dict[str, int] = {}  # by queue, the number of the last claim that was for it

    def claim(self, claim: Claim, gpus: tuple[Gpu, ...]) -> None:
        """Hold the GPUs, and ask the server for the task."""
        self._count += 1
        key = f"a{self._count}"
        try:
            self._spool_of[key] = Spool(self._memory.spools / key)
        except OSError as error:  # before the claim: a task that cannot be logged is better off elsewhere
            log.warning("task not claimed", extra={"task": claim.task.id, "why": f"no spool: {error}"})
            return
        job = Job(
            key=key,
            task=claim.task,
            gpus=gpus,
            worker=worker_name(self._worker, gpus, list(self.jobs.values()), claim.task.need.share),
            claimed_at=self._clock.now(),
        )
        self.jobs[key] = job
        entry = self._entry(job)

        def ask() -> Event:
            if not self._memory.journal.keep(entry, is_first=True):
                return Claimed(key=job.key, is_ours=False, error=FleetError(str(self._memory.journal.fault)))
            try:
                return Claimed(key=job.key, is_ours=self._claims.claim(job.task))
            except FleetError as error:
                return Claimed(key=job.key, is_ours=False, error=error)

        self._errands.ask(Urgency.CLAIM, "claim", ask)

    def on_claimed(self, event: Claimed) -> None:
        job = self.jobs[event.key]
        if not event.is_ours:
            del self.jobs[job.key]
            self._spool_of.pop(job.key).remove()
            self._memory.journal.forget(job.key)
            why = str(event.error) if event.error else "somebody else was first"
            log.info("task not claimed", extra={"task": job.task.id, "why": why})
            return
        job.is_ours = True
        self.served[job.task.queue] = max(self.served.values(), default=0) + 1
        self.note(job)
        log.info("task claimed", extra={"task": job.task.id, "queue": job.task.queue, "worker": job.worker})
        self._sender.add(Outbox(key=job.key, task=job.task, worker=job.worker, spool=self._spool_of[job.key]))
        if job.stop:
            self._end(job, None)
            return
        self._moments.run(
            Moment.PRE_TASK, facts(job.task, job.gpus), lambda failure: Prepared(key=job.key, failure=failure)
        )

    def on_prepared(self, key: str, failure: HookFailure | None) -> None:
        """Its hooks have run: start the agent."""
        job = self.jobs[key]
        if job.stop:
            self._end(job, None)
        elif failure:
            self._failed_to_start(job, f"hook {failure.hook} failed: {failure.text}")
        else:
            self._start(job)

    def _start(self, job: Job) -> None:
        order = Order(mark=job.key, task=job.task, worker=job.worker, gpus=job.gpus)

        def call() -> Started:
            try:
                return Started(key=job.key, agent=self._runner.start(order))
            except (OSError, ValueError, FleetError) as error:
                is_final = isinstance(error, AgentRefused)
                return Started(key=job.key, agent=None, error=str(error), is_final=is_final)

        if self._runner.is_quick:
            self.on_started(call())
        else:  # an image may have to be pulled
            threading.Thread(target=lambda: self._report(call()), name=f"start {job.key}", daemon=True).start()

    def on_started(self, event: Started) -> None:
        """Its agent runs, or cannot."""
        job, agent = self.jobs[event.key], event.agent
        if agent is None:
            if job.stop:
                self._end(job, None)
            else:
                self._failed_to_start(job, f"its agent could not be started: {event.error}", event.is_final)
            return
        try:
            self._console.add(job.key, agent, self._spool_of[job.key])
        except OSError as error:  # no file descriptor left
            agent.kill()
            self._runner.bury(agent)
            self._failed_to_start(job, f"its console could not be read: {error}")
            return
        job.agent, job.started_at = agent, self._clock.now()
        self.note(job)
        self._sender.announce(job.key)
        log.info("agent started", extra={"task": job.task.id, "pid": agent.pid, "gpus": _indices(job)})
        if job.stop:
            self._ask_to_end(job, agent)

    def _ask_to_end(self, job: Job, agent: Agent) -> None:
        stop, now = job.stop, self._clock.now()
        usual = grace(stop.reason.code if stop else "", self._stop_grace)
        job.kill_at = (stop and stop.kill_at) or now + usual
        if stop is None or stop.kill_at is None:
            agent.ask_to_end()
            return
        last = max(now, stop.kill_at - LAST_WORD)
        job.term_at = last if job.has_abort_callback else min(now + ANSWERS_WITHIN, last)
        self._errands.ask(Urgency.CLAIM, "ask to save", lambda: ask_to_save(job, stop, self._claims))

    def on_asked(self, key: str) -> None:
        """Its abort callback has all the time there is."""
        if (job := self.jobs.get(key)) and job.is_running and job.kill_at:
            job.term_at = max(self._clock.now(), job.kill_at - LAST_WORD)

    def on_unasked(self, event: Unasked) -> None:
        """It has no abort callback, or that could not be asked for: SIGTERM says it too."""
        if event.error:
            log.warning("server not asked to stop a task", extra={"error": str(event.error)})
        if (job := self.jobs.get(event.key)) and job.term_at:
            job.term_at = self._clock.now()

    def _failed_to_start(self, job: Job, why: str, is_final: bool = False) -> None:
        """What becomes of the task is decided elsewhere; see `decide`."""
        job.starts_failed = self.setbacks.times(job.task.id) + 1
        if is_final:
            job.starts_failed = max(job.starts_failed, MAX_STARTS)
        job.start_error = why
        self.setbacks.note(job.task.id, job.starts_failed, self._clock.now())
        log.warning("agent not started", extra={"task": job.task.id, "why": why, "times": job.starts_failed})

    def stop(self, stop: StopTask) -> None:
        """End it, gently first; or before it begins, at its next step."""
        job = next((job for job in self.jobs.values() if job.task.id == stop.task and job.stop is None), None)
        if job is None:
            return
        job.stop = stop
        if job.is_ours:  # else its claim is being noted by another thread, and its answer is noted with the stop
            self.note(job)
        log.info("stopping task", extra={"task": job.task.id, "code": stop.reason.code, "why": stop.reason.text})
        self._say(job, f"stopped: {stop.reason.text}")
        if job.start_error is not None:
            self._end(job, None)
        elif job.is_running and job.agent:
            self._ask_to_end(job, job.agent)
        elif job.is_ours:  # else it may never be, and nobody would clean up after it
            self._runner.call_off(job.key)

    def on_watched(self, event: Watched) -> None:
        for key in event.asked:
            if job := self.jobs.get(key):
                job.see(event.states.get(job.task.id), event.asked_at, self._clock.now())
                if job.term_at and job.has_saved_itself:
                    job.term_at = self._clock.now()

    def on_metered(self, event: Metered) -> None:
        """How much GPU memory each task on a part of a GPU uses."""
        for key in event.asked:
            if job := self.jobs.get(key):
                job.overuse = overuse(job, event.used_gib.get(key, 0.0))

    def on_exited(self, key: str) -> None:
        """The agent has ended: whatever it started ends with it."""
        job = self.jobs[key]
        if job.agent is None:
            return
        outcome = self._runner.bury(job.agent)
        job.exit_code, job.why = outcome.exit_code, outcome.why
        job.term_at = job.kill_at = None
        log.info("agent ended", extra={"task": job.task.id, "exit_code": job.exit_code})
        if job.is_silent:
            self._after(job)
        else:
            job.cut_at = self._clock.now() + CONSOLE_ENDS_WITHIN

    def on_silent(self, key: str) -> None:
        job = self.jobs[key]
        job.is_silent, job.cut_at = True, None
        if job.exit_code is not None:
            self._after(job)

    def _after(self, job: Job) -> None:
        if job.exit_code and not job.stop:
            self._say(job, f"process failed, exit code {job.exit_code}{f': {job.why}' if job.why else ''}")
        given = {**facts(job.task, job.gpus), "FLEET_EXIT_CODE": str(job.exit_code)}
        self._moments.run(Moment.POST_TASK, given, lambda failure: CleanedUp(key=job.key, failure=failure))

    def on_cleaned_up(self, key: str, failure: HookFailure | None) -> None:
        job = self.jobs[key]
        if failure:
            log.warning("hook failed", extra={"task": job.task.id, "hook": failure.hook, "why": failure.text})
        if job.exit_code and job.stop is None and (why := self._why_sick(job.gpus)):
            # It died of its GPU before anybody could stop it.
            job.stop = StopTask(task=job.task.id, reason=gpu_sick(job.task, why), then=RunResult.REQUEUED)
        self._end(job, job.exit_code)

    def _end(self, job: Job, exit_code: int | None) -> None:
        """Its GPUs are free; what is left is to tell the server."""
        job.ended_at = self._clock.now()
        if job.start_error is None:
            self.setbacks.forget(job.task.id)
        del self.jobs[job.key]
        self.unsettled[job.key] = job
        self.note(job)
        # An environment has thousands of files; nobody waits for them to be deleted.
        threading.Thread(target=self._runner.clean, args=(job.key,), daemon=True).start()
        self._sender.finish(job.key, Ending(exit_code=exit_code, stop=job.stop, why=job.why))

    def on_settled(self, key: str, result: RunResult) -> None:
        job = self.unsettled.pop(key)
        del self._spool_of[key]
        if result is not RunResult.REQUEUED:
            self.setbacks.forget(job.task.id)
            self._deaths.pop(job.task.id, None)
        self._memory.journal.keep(self._entry(job, result))
        self._untold.add(key, job.run(self._instance, result))

    def on_time(self, now: datetime) -> None:
        """Do what the passing of time makes due."""
        for job in self.jobs.values():
            if job.term_at and now >= job.term_at and job.agent:
                job.term_at = None
                job.agent.ask_to_end()
            if job.kill_at and now >= job.kill_at and job.agent:
                job.kill_at = None
                log.info("killing task", extra={"task": job.task.id, "why": "its grace is over"})
                job.agent.kill()
            if job.cut_at and now >= job.cut_at:
                job.cut_at = None
                self._console.cut(job.key)

    def next_time(self) -> datetime | None:
        times = [at for job in self.jobs.values() for at in (job.term_at, job.kill_at, job.cut_at) if at]
        return min(times, default=None)

    @property
    def starting(self) -> list[Job]:
        """Claimed by us, and the server has not heard that they run: hooks, or an image that is pulled, take their time."""
        return [job for job in self.jobs.values() if job.is_ours and job.announced_at is None]

    def runs(self) -> tuple[Run, ...]:
        """Current ones, and ended ones that the centre has not seen: not all at once, see `untold`."""
        current = [job.run(self._instance) for job in (*self.jobs.values(), *self.unsettled.values()) if job.is_ours]
        return (*current, *self._untold.told())

    def forget_runs(self, seen: Sequence[Run]) -> bool:
        """The centre has these in its ledger. Current ones among them change nothing. True: there is more to tell it."""
        return self._untold.forget(seen)

    def give_up(self, heard: Iterable[Event]) -> None:
        """This machine ends now: what the server was not told is for the dispatcher to find, as put back.

        `heard`: what the other threads have told since the last turn; what the server took meanwhile is no more given up.
        """
        for event in heard:
            if isinstance(event, Settled) and event.key in self.unsettled:
                self.on_settled(event.key, event.result)
        for job in self.unsettled.values():
            self._untold.add(job.key, job.run(self._instance, RunResult.REQUEUED))
        self.unsettled.clear()

    def restore(self, legacy: Legacy) -> None:
        """Go on with what a supervisor before us held: with its agent, or with telling what it came to."""
        entry, at = legacy.entry, self._clock.now()
        if not entry.is_ours:
            # Whoever got the answer to that claim, it was not us. If it was nobody, the dispatcher's sweep finds the task.
            log.info("claim without an answer", extra={"task": entry.task.id, "at": entry.claimed_at})
            legacy.spool.remove()
            self._memory.journal.forget(entry.key)
            return
        if entry.result:
            self._untold.add(entry.key, entry.run)
            legacy.spool.remove()
            return
        job = restored_job(entry, at)
        self._spool_of[job.key] = legacy.spool
        self._deaths[job.task.id] = entry.deaths
        self._sender.add(Outbox(key=job.key, task=job.task, worker=job.worker, spool=legacy.spool, restored=entry))
        if legacy.agent and self._go_on(job, legacy.agent):
            return
        if entry.ended_at is None:
            self._deaths[job.task.id] += 1
            self.setbacks.note(job.task.id, self._deaths[job.task.id], at)
            job.stop, job.ended_at = job.stop or lost(entry), at
            self._say(job, f"stopped: {job.stop.reason.text}")
        self.unsettled[job.key] = job
        self.note(job)
        self._sender.finish(job.key, Ending(exit_code=job.exit_code, stop=job.stop))

    def _go_on(self, job: Job, agent: Agent) -> bool:
        try:
            self._console.add(job.key, agent, self._spool_of[job.key])
        except OSError as error:
            log.warning("agent not adopted", extra={"task": job.task.id, "why": str(error)})
            agent.kill()
            self._runner.bury(agent)
            return False
        self.jobs[job.key] = job
        job.agent = agent
        if job.announced_at is None:
            self._sender.announce(job.key)
        else:
            self._sender.has_text(job.key)
        if job.stop:
            self._ask_to_end(job, agent)
        return True

    def note(self, job: Job) -> None:
        """Its state has changed: the next supervisor must know."""
        self._memory.journal.keep(self._entry(job))

    def _entry(self, job: Job, result: RunResult | None = None) -> Entry:
        return entry_of(job, self._instance, self._deaths.get(job.task.id, 0), result)

    def _say(self, job: Job, text: str) -> None:
        """A line of ours in the task's console."""
        self._spool_of[job.key].append(self._clock.now(), f"### fleet: {text} ###\n")
        self._sender.has_text(job.key)


def _indices(job: Job) -> str:
    return ",".join(str(gpu.index) for gpu in job.gpus) or "none"
