"""When a simulation is over: all is settled and machines had their time to end, or nothing gets done any more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from fleet.dispatcher.parts import Policy
from fleet.model import Budget, Plan, Window
from fleet.planner.habits import IDLE_CHOICES_S
from fleet.simulate.agenda import EPOCH, Agenda
from fleet.simulate.trace import Submission
from fleet.simulate.truth import Truth

# When all tasks are settled, machines get this long beyond their idle time to end; those kept for ever are billed till then.
LAST_WORDS = timedelta(hours=1)
# A fleet that finishes nothing for so long, beyond three times its longest task, never will.
PATIENCE = timedelta(days=7)


class Ending:
    """Sees the end of one simulation coming."""

    def __init__(self, policy: Policy, agenda: Agenda, truth: Truth, jobs: Mapping[str, Submission]) -> None:
        self._policy, self._agenda, self._truth = policy, agenda, truth
        self._too_wide = frozenset(task for task, job in jobs.items() if job.instances > _most_at_once(policy, job))
        longest_task = timedelta(seconds=max((job.duration_s for job in jobs.values()), default=0.0))
        self._settled_until: datetime | None = None
        self._progress_at = EPOCH
        self._finished = 0
        self._patience = PATIENCE + 3 * longest_task + _longest_window(policy.budget)

    def put_off(self) -> None:
        """Something was submitted: patience begins anew."""
        self._progress_at = self._agenda.at

    def settle(self, made: Plan, unsubmitted: int) -> None:
        """From the moment when no task will ever start any more, machines have the time to end, and no longer."""
        is_any_hopeful = any(w.reason.code != "no_fit" and w.task not in self._too_wide for w in made.waiting)
        if unsubmitted or self._truth.running or is_any_hopeful:
            self._settled_until = None
        elif self._settled_until is None:
            idle = [r.idle_timeout for r in self._policy.resources if r.idle_timeout]
            idle += [timedelta(seconds=max(IDLE_CHOICES_S))] * any(r.is_idle_auto for r in self._policy.resources)
            boot = max(r.boot_timeout for r in self._policy.resources)
            self._settled_until = self._agenda.at + max(idle, default=timedelta(0)) + boot + LAST_WORDS
            self._agenda.add(self._settled_until, lambda: None)  # time goes on till then, whatever else happens

    def is_over(self, next_at: datetime, unsubmitted: int) -> bool:
        """Whether what happens next, at `next_at`, is of no interest any more."""
        if self._settled_until is not None and next_at > self._settled_until:
            return True
        if len(self._truth.completed) > self._finished:
            self._finished, self._progress_at = len(self._truth.completed), self._agenda.at
        return not unsubmitted and next_at - self._progress_at > self._patience


def _most_at_once(policy: Policy, job: Submission) -> float:
    """How many instances may ever be there for such a task, whoever they were launched for: a gang of more waits for ever."""
    (names,) = (queue.resources for queue in policy.queues if queue.name == job.queue)
    served = sum(_most(r.max_instances, r.schedule) for r in policy.resources if r.name in names)
    return min(served, _most(policy.budget.max_instances, policy.budget.schedule))


def _most(limit: int | None, windows: Iterable[Window] = ()) -> float:
    """The limit, or that of the window with the highest one."""
    others = [window.max_instances for window in windows if window.max_instances is not None]
    return math.inf if limit is None else max([limit, *others])


def _longest_window(budget: Budget) -> timedelta:
    """How long a fleet may do nothing because its money is spent."""
    parts = (budget, *budget.queues.values(), *budget.users.values(), *filter(None, [budget.per_user]))
    if any(part.usd_per_month is not None for part in parts):
        return timedelta(days=31)
    return timedelta(days=any(part.usd_per_day is not None for part in parts))
