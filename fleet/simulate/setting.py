"""What a simulation is given, and what it leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.dispatcher.parts import Policy
from fleet.model import Offer, Reason
from fleet.simulate.faults import Faults
from fleet.simulate.trace import Submission
from fleet.simulate.truth import Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """All that a simulation depends on."""

    policy: Policy
    offers: Mapping[str, Sequence[Offer]]  # by resource
    workload: Sequence[Submission]  # in the order of submission
    boot_time: timedelta = timedelta(seconds=180)
    faults: Faults = field(default_factory=Faults)
    checkpoint: timedelta | None = None  # so often a task keeps what it has done; None: it begins anew each time
    is_dense: bool = False  # pass at every tick


def has_levels(policy: Policy) -> bool:
    """Whether the fleet keeps machines or room that nobody asks for, or its limits change with the time."""
    is_kept = any(r.min_instances or r.schedule for r in policy.resources)
    return is_kept or any(q.headroom or q.schedule for q in policy.queues) or bool(policy.budget.schedule)


def has_limits(policy: Policy) -> bool:
    """Whether a launch may be the last that a limit allows."""
    budget = policy.budget
    budgets = (budget, *budget.queues.values(), *budget.users.values(), *filter(None, [budget.per_user]))
    counts = (
        budget.max_instances,
        *(r.max_instances for r in policy.resources),
        *(q.max_instances for q in policy.queues),
    )
    return any(each.caps_usd for each in budgets) or any(count is not None for count in counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it."""

    truth: Truth
    ended_at: datetime
    states: Mapping[str, str]  # of each task: completed, failed, waiting or lost
    gone_at: Mapping[str, datetime | None]  # of each machine, as the store has it; one that it never knew is missing
    paid_by: Mapping[str, tuple[str | None, str | None]]  # queue and user that each machine was launched for
    why_waiting: Counter[str]  # how many tasks wait in the end, by the planner's reason
    reasons: Mapping[str, Reason]  # why they wait, by task
    launched_for: Mapping[str, str | None]  # the queue that each machine was launched for, as the store has it
    passes: int
