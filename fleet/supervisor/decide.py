"""PURE: everything that a supervisor decides. State in (`situation`), `instructions` out; the loop and the simulator carry them out.

claim        what waits and fits, whoever's turn it is (`claims`, `turns`)
stop a task  its user asks, the server says that it is not ours any more, or this machine has to end (`stops`)
stop pulling idle too long, ordered to drain, too old, the cloud's notice (`under_notice`)
pull again   the order to drain was taken back
end          nothing is held any more, and everything that the server has to know is told
"""

from __future__ import annotations

from datetime import datetime, timedelta

from fleet.model import Reason
from fleet.supervisor import under_notice, why
from fleet.supervisor.claims import retry_at, to_claim
from fleet.supervisor.instructions import EndMachine, Instruction, ResumePulling, StopPulling
from fleet.supervisor.precedence import openings
from fleet.supervisor.situation import Policy, State
from fleet.supervisor.stops import abort_deadline, to_stop

# Tasks may finish so long after the maximum lifetime; one minute more than the dispatcher gives, which tells why it ends them.
LIFETIME_GRACE = timedelta(minutes=16)
# How long an idle machine waits past its deadline for one last look into the queues: a task that came in the
# last moment is cheaper to run here than on a machine that has to boot.
LAST_LOOK = timedelta(seconds=1)


def decide(state: State, policy: Policy) -> tuple[Instruction, ...]:
    """What to do now. The same state gives the same instructions; what is under way already is not repeated."""
    end = _why_end(state, policy)
    leaves = under_notice.why_leave(state.notice, policy.on_rebalance)
    instructions: list[Instruction] = [*to_stop(state, end, leaves, policy)]
    stopped = state.stopped_pulling
    claims = () if end or stopped else to_claim(state, policy)
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
    deadlines += [retry_at(failed) for failed in state.failed_starts.values()]
    deadlines += openings(state, policy)
    deadlines += under_notice.times(state.notice, policy.on_rebalance, state.drain_by if state.drain else None)
    for held in state.held:
        if held.sighting and held.sighting.is_stop_asked:
            deadlines.append(abort_deadline(held.sighting, state.at))
    return min((at for at in deadlines if at > state.at), default=None)


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
