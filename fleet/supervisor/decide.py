"""PURE: everything that a supervisor decides. State in, instructions out; the loop and the simulator carry them out.

claim        what waits and fits, whoever's turn it is (`fleet.supervisor.turns`)
stop a task  its user asks, the server says that it is not ours any more, or this machine has to end
stop pulling idle too long, ordered to drain, too old, the cloud's notice (`fleet.supervisor.under_notice`)
pull again   the order to drain was taken back
end          nothing is held any more, and everything that the server has to know is told
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.model import Gpu, Notice, OnRebalance, Queue, Reason, RunResult, Task, Turns
from fleet.queues.base import TaskStatus
from fleet.supervisor import allocation, under_notice, why
from fleet.supervisor.groups import Links
from fleet.supervisor.turns import Turn, is_out_of_sight

# Tasks may finish so long after the maximum lifetime; one minute more than the dispatcher gives, which tells why it ends them.
LIFETIME_GRACE = timedelta(minutes=16)
# How long an idle machine waits past its deadline for one last look into the queues: a task that came in the
# last moment is cheaper to run here than on a machine that has to boot.
LAST_LOOK = timedelta(seconds=1)
FIRST_LOOK = 20  # tasks of each queue: more than a machine can start at once
DEEPEST_LOOK = 20_000
# A task whose agent could not be started so often on this machine has failed.
MAX_STARTS = 3
START_AGAIN_AFTER = timedelta(seconds=2)  # times the number of failures
# An abort callback may not hold a machine longer than this, as in the stock agent.
MAX_ABORT_CALLBACK = timedelta(seconds=1800)
# `created` and `failed` can be seen in passing, while a user resets or the SDK says its last words.
SIGHTINGS_NEEDED = {TaskStatus.CREATED: 2, TaskStatus.FAILED: 2}
# A task may use more than its share of a GPU's memory for so many looks in a row, two seconds apart: libraries take
# memory before they give other memory back.
OVERUSES_BORNE = 2
NOT_OURS = {
    TaskStatus.CREATED,
    TaskStatus.QUEUED,
    TaskStatus.STOPPED,
    TaskStatus.FAILED,
    TaskStatus.CLOSED,
    TaskStatus.PUBLISHED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the server said of a task that runs here, when it was last asked."""

    status: TaskStatus | None  # None: it does not exist any more
    times: int  # how often in a row
    is_stop_asked: bool = False
    stop_asked_at: datetime | None = None  # first seen
    abort_callback_s: float = 0.0  # how long its own abort callback may take; 0 = it has none
    is_abort_callback_done: bool = False
    is_elsewhere: bool = False  # another worker reports it


@dataclass(frozen=True, slots=True, kw_only=True)
class Overuse:
    """A task on a part of a GPU uses more of its memory than its share."""

    used_gib: float
    allowed_gib: float
    times: int  # seen how often in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A task that holds its GPUs (or its CPU slot), from the claim until all its processes are gone."""

    task: Task
    gpus: tuple[str, ...]  # uuids
    is_stopping: bool = False
    start_error: str | None = None  # its agent could not be started
    starts_failed: int = 0  # on this machine, this time included
    sighting: Sighting | None = None
    overuse: Overuse | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStart:
    """How often the agent of a task could not be started here, and when last."""

    times: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that a decision depends on."""

    at: datetime
    enrolled_at: datetime
    gpus: tuple[Gpu, ...]  # that work now
    links: Links = field(default_factory=dict)  # how near they are to each other
    cpus: int
    sick: Mapping[str, str] = field(default_factory=dict)  # GPUs out of service (uuids), and why
    held: tuple[Held, ...] = ()
    unsent: frozenset[str] = frozenset()  # ended tasks of which the server does not have the log or the result yet
    waiting: tuple[Task, ...] = ()
    peeked_at: datetime | None = None  # when `waiting` was asked for
    idle_since: datetime | None = None  # None while something is held
    server_seen_at: datetime  # last answer of the ClearML server
    centre_seen_at: datetime  # last answer of the dispatcher
    drain: Reason | None = None  # ordered: pull no more, end when empty
    drain_by: datetime | None = None  # and what runs then is put back
    end: Reason | None = None  # ordered: end now
    stopped_pulling: Reason | None = None
    is_stopped_for_good: bool = True  # False: an order to drain did it, which may be taken back
    failed_starts: Mapping[str, FailedStart] = field(default_factory=dict)
    served: Mapping[str, int] = field(default_factory=dict)  # by queue, the number of the last claim that was for it
    has_started_up: bool = True  # its startup hooks are done
    awake_at: datetime | None = None  # when something else than a task was last seen to keep it awake
    notice: Notice | None = None  # the cloud's, that stands now


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the centre wants of this machine in general."""

    queues: tuple[Queue, ...]
    idle_timeout: timedelta | None
    contact_timeout: timedelta
    max_lifetime: timedelta | None
    # By queue: tasks of up to so many GPUs are left to smaller machines.
    above_gpus: Mapping[str, float] = field(default_factory=dict)
    turns: Turns | None = None  # None: the dispatcher has not said
    boot_timeout: timedelta | None = None  # for the startup hooks, from the enrolment on
    on_rebalance: OnRebalance = OnRebalance.DRAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Take this task out of its queue and run it on these GPUs (uuids)."""

    task: Task
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPulling:
    """Take no more tasks."""

    reason: Reason
    is_for_good: bool = True  # False: until the order to drain is taken back


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePulling:
    """Take tasks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTask:
    """End the processes of a task that is held, then tell the server what it came to."""

    task: str
    reason: Reason
    then: RunResult | None  # None: the server knows better already, its status was changed by somebody else
    # It may save itself until then, and goes on elsewhere from what it saved. None: it has the usual grace.
    kill_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndMachine:
    """Nothing is held: say goodbye and end this machine."""

    reason: Reason


Instruction = Claim | StopPulling | ResumePulling | StopTask | EndMachine


def decide(state: State, policy: Policy) -> tuple[Instruction, ...]:
    """What to do now. The same state gives the same instructions; what is under way already is not repeated."""
    end = _why_end(state, policy)
    leaves = under_notice.why_leave(state.notice, policy.on_rebalance)
    instructions: list[Instruction] = [*_stops(state, end, leaves, policy)]
    stopped = state.stopped_pulling
    claims = () if end or stopped else _claims(state, policy)
    cause = end or under_notice.first_of(leaves, state.drain) or _why_drain(state, policy, is_claiming=bool(claims))
    if stopped and cause is None and not state.is_stopped_for_good:
        return (*instructions, ResumePulling())
    quit_pulling = stopped or cause
    if quit_pulling is None:
        return (*instructions, *claims)
    is_for_good = cause is not None and cause is not state.drain and not under_notice.may_be_withdrawn(cause)
    if stopped is None or (is_for_good and not state.is_stopped_for_good) or under_notice.outdoes(cause, stopped):
        instructions.append(StopPulling(reason=cause or quit_pulling, is_for_good=is_for_good))
    if not state.held and _has_told_all(state, policy):
        is_preempted = under_notice.outdoes(cause, quit_pulling)
        instructions.append(EndMachine(reason=end or (cause if cause and is_preempted else quit_pulling)))
    return tuple(instructions)


def next_deadline(state: State, policy: Policy) -> datetime | None:
    """When the passing of time alone will next change a decision; None: never."""
    deadlines = [max(state.server_seen_at, state.centre_seen_at) + policy.contact_timeout]
    if policy.max_lifetime is not None:
        deadlines += [state.enrolled_at + policy.max_lifetime + more for more in (timedelta(0), LIFETIME_GRACE)]
    if policy.boot_timeout is not None and not state.has_started_up:
        deadlines.append(state.enrolled_at + policy.boot_timeout)
    if policy.idle_timeout is not None and state.idle_since is not None:
        idle = _idle_from(state.idle_since, state) + policy.idle_timeout
        deadlines += [idle, idle + LAST_LOOK]
    deadlines += [_retry_at(failed) for failed in state.failed_starts.values()]
    deadlines += under_notice.times(state.notice, policy.on_rebalance, state.drain_by if state.drain else None)
    for held in state.held:
        if held.sighting and held.sighting.is_stop_asked:
            deadlines.append(_abort_deadline(held.sighting, state.at))
    return min((at for at in deadlines if at > state.at), default=None)


def depth_to_look(state: State, policy: Policy, depth: int) -> int:
    """How many tasks of each queue to ask for next, when `depth` were asked for: more, where none of those that were shown
    can ever run here. Else what waits behind them would never be seen, and machines be launched for it again and again."""
    for queue in policy.queues:
        shown = [task for task in state.waiting if task.queue == queue.name]
        if len(shown) >= depth and not any(_is_for_here(task, queue, state, policy) for task in shown):
            return min(4 * depth, DEEPEST_LOOK)
    if policy.turns and policy.turns.holds:
        is_cut = any(sum(task.queue == queue.name for task in state.waiting) >= depth for queue in policy.queues)
        if is_cut and is_out_of_sight(state.waiting, policy.turns):
            return min(4 * depth, DEEPEST_LOOK)
        return depth
    heads = (t for t in state.waiting if t.position < FIRST_LOOK)
    queues = {queue.name: queue for queue in policy.queues}
    is_head_usable = any(t.queue in queues and _is_for_here(t, queues[t.queue], state, policy) for t in heads)
    return FIRST_LOOK if is_head_usable or not state.waiting else depth


def _is_for_here(task: Task, queue: Queue, state: State, policy: Policy) -> bool:
    """Whether this machine, idle as it may be, could and should run it."""
    return not is_left_to_others(task, policy) and allocation.why_never(task, state.gpus, queue) is None


def is_left_to_others(task: Task, policy: Policy) -> bool:
    """Smaller machines are cheaper for it, says the centre; but a task with wishes of its own may have no other."""
    limit = policy.above_gpus.get(task.queue)
    if limit is not None and policy.turns and any(h.task in (task.id, task.gang) for h in policy.turns.holds):
        return False  # this machine is held for it
    return limit is not None and task.need.at_least <= limit and not task.gpu_type and not task.gpu_memory_gib


def is_last_look_due(state: State, policy: Policy) -> bool:
    """The idle time is over, and the queues were last seen before: look once more."""
    deadline = _idle_deadline(state, policy)
    return deadline is not None and state.at >= deadline and not _has_looked_since(state, deadline)


# --- the end of the machine


def _why_end(state: State, policy: Policy) -> Reason | None:
    if state.end:
        return state.end
    if _is_fenced(state, policy):
        return why.contact_lost(policy.contact_timeout)
    age = state.at - state.enrolled_at
    if policy.boot_timeout is not None and not state.has_started_up and age >= policy.boot_timeout:
        return why.not_booted(policy.boot_timeout)
    if policy.max_lifetime is not None and age >= policy.max_lifetime + LIFETIME_GRACE:
        return why.too_old(policy.max_lifetime)
    return None


def _is_fenced(state: State, policy: Policy) -> bool:
    return state.at - max(state.server_seen_at, state.centre_seen_at) >= policy.contact_timeout


def _why_drain(state: State, policy: Policy, is_claiming: bool) -> Reason | None:
    if policy.max_lifetime is not None and state.at - state.enrolled_at >= policy.max_lifetime:
        return why.too_old(policy.max_lifetime)
    deadline = _idle_deadline(state, policy)
    if is_claiming or deadline is None or policy.idle_timeout is None or state.at < deadline:
        return None
    if not _has_looked_since(state, deadline) and state.at < deadline + LAST_LOOK:
        return None
    after = f"{policy.idle_timeout.total_seconds():g}"
    return Reason(code="idle", text=f"no task for {after} s", limit=f"idle_timeout={after}s")


def _idle_deadline(state: State, policy: Policy) -> datetime | None:
    if policy.idle_timeout is None or state.idle_since is None or state.held:
        return None
    return _idle_from(state.idle_since, state) + policy.idle_timeout


def _idle_from(idle_since: datetime, state: State) -> datetime:
    """Who kept it awake is given the whole idle time once more: he may come back."""
    return max(idle_since, state.awake_at or idle_since)


def _has_looked_since(state: State, deadline: datetime) -> bool:
    return state.peeked_at is not None and state.peeked_at >= deadline


def _has_told_all(state: State, policy: Policy) -> bool:
    """A server that is away may come back for the last lines of a log, but not for ever: the machine costs money."""
    return not state.unsent or state.at - state.server_seen_at >= policy.contact_timeout


# --- the end of tasks


def _stops(state: State, end: Reason | None, leaves: Reason | None, policy: Policy) -> list[StopTask]:
    by_notice = under_notice.kill_at(state.notice, policy.on_rebalance, state.at) if leaves else None
    by_drain = under_notice.kill_by(state.drain_by, state.at) if state.drain else None
    kill_at, reason = (by_notice, leaves) if by_notice else (by_drain, state.drain)
    stops = []
    for held in state.held:
        if held.is_stopping:
            continue
        stop = _stop_of(held, end, state.at, state.sick)
        is_leaving = held.sighting is None or not held.sighting.is_stop_asked  # else it ends as its user wants it
        if stop is None and kill_at and reason and is_leaving:  # with an `end` there is a stop already
            stop = StopTask(task=held.task.id, reason=reason, then=RunResult.REQUEUED, kill_at=kill_at)
        if stop:
            stops.append(stop)
    return stops


def _stop_of(held: Held, end: Reason | None, at: datetime, sick: Mapping[str, str]) -> StopTask | None:
    task = held.task.id
    if held.start_error is not None:
        then = RunResult.FAILED if held.starts_failed >= MAX_STARTS else RunResult.REQUEUED
        return StopTask(task=task, reason=Reason(code="start_failed", text=held.start_error, task=task), then=then)
    if end:
        return StopTask(task=task, reason=end, then=RunResult.REQUEUED)
    if held.sighting and (stop := _stop_by_sighting(task, held.sighting, at)):
        return stop
    if cause := next((sick[gpu] for gpu in held.gpus if gpu in sick), None):
        return StopTask(task=task, reason=why.gpu_sick(held.task, cause), then=RunResult.REQUEUED)
    if held.overuse and held.overuse.times > OVERUSES_BORNE:
        used, allowed = held.overuse.used_gib, held.overuse.allowed_gib
        reason = why.too_much_memory(held.task, used_gib=used, allowed_gib=allowed)
        return StopTask(task=task, reason=reason, then=RunResult.FAILED)
    return None


def _stop_by_sighting(task: str, seen: Sighting, at: datetime) -> StopTask | None:
    def stop(code: str, text: str, then: RunResult | None) -> StopTask:
        return StopTask(task=task, reason=Reason(code=code, text=text, task=task), then=then)

    if seen.status is None:
        return stop("deleted", "the task was deleted while it ran", None)
    if seen.is_elsewhere:
        return stop("elsewhere", "another worker runs this task now", None)
    if seen.is_stop_asked:
        is_waiting = seen.abort_callback_s > 0 and not seen.is_abort_callback_done
        if is_waiting and at < _abort_deadline(seen, at):
            return None
        return stop("user_stopped", "its user asked for the end", RunResult.STOPPED)
    if seen.status in NOT_OURS and seen.times >= SIGHTINGS_NEEDED.get(seen.status, 1):
        return stop("status_changed", f"its status was changed to {seen.status} while it ran", None)
    return None


def _abort_deadline(seen: Sighting, at: datetime) -> datetime:
    callback = min(timedelta(seconds=seen.abort_callback_s), MAX_ABORT_CALLBACK)
    return (seen.stop_asked_at or at) + callback


# --- claims


def _claims(state: State, policy: Policy) -> tuple[Claim, ...]:
    """Whoever's turn it is. What fits this machine but not now keeps its GPUs free, if this machine is held for it."""
    if not state.waiting:
        return ()
    queues = {queue.name: queue for queue in policy.queues}
    free = allocation.Free.of(state.gpus, ((held.gpus, held.task.need.share) for held in state.held), state.links)
    cpu_tasks: dict[str, int] = {}
    for held in state.held:
        if not held.gpus:
            cpu_tasks[held.task.queue] = cpu_tasks.get(held.task.queue, 0) + 1
    claims: list[tuple[Task, tuple[Gpu, ...]]] = []
    uses = [(h.task, h.task.need.share or len(h.gpus)) for h in state.held]
    turn = Turn(_claimable(state, queues), policy.queues, policy.turns, uses, state.served)
    turn.keep_back(free)
    for task in turn:
        if task.need.at_least and not (free.whole or free.shared):
            continue  # nothing is left to give or to keep; only CPU tasks may follow
        queue = queues[task.queue]
        if not _is_for_here(task, queue, state, policy):
            continue
        slots = allocation.free_cpu_slots(queue, policy.queues, cpu_tasks, state.cpus)
        chosen = allocation.choose(task, free, slots)
        if chosen is None:
            if turn.is_held_for(task):
                free.keep(allocation.reserve(task, free))
            continue
        free.take(task.need, chosen)
        if not chosen:
            cpu_tasks[queue.name] = cpu_tasks.get(queue.name, 0) + 1
        turn.gave(task, task.need.share or len(chosen))
        claims.append((task, chosen))
    grown = ((task, allocation.grow(task, chosen, free)) for task, chosen in claims)
    return tuple(Claim(task=task, gpus=tuple(gpu.uuid for gpu in gpus)) for task, gpus in grown)


def _claimable(state: State, queues: Container[str]) -> list[Task]:
    """What may be claimed at all. A task that is still held or unsent here has to wait for that."""
    busy = {held.task.id for held in state.held} | state.unsent
    return [t for t in state.waiting if t.queue in queues and t.id not in busy and _may_start(t, state)]


def _may_start(task: Task, state: State) -> bool:
    failed = state.failed_starts.get(task.id)
    return failed is None or state.at >= _retry_at(failed)


def _retry_at(failed: FailedStart) -> datetime:
    return failed.at + failed.times * START_AGAIN_AFTER
