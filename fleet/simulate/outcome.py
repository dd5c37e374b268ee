"""What is left when a simulation ends, read off the truth, the server and the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet.dispatcher.parts import Policy
from fleet.model import Waiting
from fleet.queues.base import TaskStatus
from fleet.simulate.server import SimulatedServer
from fleet.simulate.setting import Outcome
from fleet.simulate.truth import Truth
from fleet.store.chronicle import ChronicledStore
from fleet.store.memory import MemoryStore


def outcome_of(
    *,
    policy: Policy,
    tasks: Iterable[str],
    truth: Truth,
    server: SimulatedServer,
    store: MemoryStore | ChronicledStore,
    waiting: Sequence[Waiting],
    ended_at: datetime,
    passes: int,
) -> Outcome:
    """`tasks`: all that were submitted; `waiting`: what the last plan said of those that wait."""
    queued = {task.id for task in server.waiting(policy.queues)}
    known = [i for i in map(store.instance, truth.lives) if i]
    return Outcome(
        truth=truth,
        ended_at=ended_at,
        states={task: _state_of(task, server, truth, task in queued) for task in tasks},
        gone_at={i.id: i.gone_at for i in known},
        paid_by={i.id: (i.reason.queue, i.reason.user) for i in known},
        why_waiting=Counter(w.reason.text for w in waiting),
        reasons={w.task: w.reason for w in waiting},
        launched_for={i.id: i.reason.queue for i in known},
        passes=passes,
    )


def _state_of(task: str, server: SimulatedServer, truth: Truth, is_queued: bool) -> str:
    """Where a task is in the end. One that nobody holds and no queue has is lost."""
    state = server.states([task]).get(task)
    if state and state.status is TaskStatus.COMPLETED:
        return "completed" if task in truth.completed else "lost"
    if state and state.status is TaskStatus.FAILED:
        return "failed"
    return "waiting" if is_queued or truth.running[task] else "lost"
