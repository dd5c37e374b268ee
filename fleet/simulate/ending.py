"""When a simulation is over: all is settled and machines had their time to end, or nothing gets done any more."""

from __future__ import annotations

from datetime import datetime, timedelta

from fleet.dispatcher.parts import Policy
from fleet.model import Budget, Plan
from fleet.planner.habits import IDLE_CHOICES_S
from fleet.simulate.agenda import EPOCH, Agenda
from fleet.simulate.truth import Truth

# When all tasks are settled, machines get this long beyond their idle time to end; those kept for ever are billed till then.
LAST_WORDS = timedelta(hours=1)
# A fleet that finishes nothing for so long, beyond three times its longest task, never will.
PATIENCE = timedelta(days=7)


class Ending:
    """Sees the end of one simulation coming."""

    def __init__(self, policy: Policy, agenda: Agenda, truth: Truth, longest_task: timedelta) -> None:
        self._policy, self._agenda, self._truth = policy, agenda, truth
        self._settled_until: datetime | None = None
        self._progress_at = EPOCH
        self._finished = 0
        self._patience = PATIENCE + 3 * longest_task + _longest_window(policy.budget)

    def put_off(self) -> None:
        """Something was submitted: patience begins anew."""
        self._progress_at = self._agenda.at

    def settle(self, made: Plan, unsubmitted: int) -> None:
        """From the moment when no task will ever start any more, machines have the time to end, and no longer."""
        if unsubmitted or self._truth.running or any(w.reason.code != "no_fit" for w in made.waiting):
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


def _longest_window(budget: Budget) -> timedelta:
    """How long a fleet may do nothing because its money is spent."""
    parts = (budget, *budget.queues.values(), *budget.users.values(), *filter(None, [budget.per_user]))
    if any(part.usd_per_month is not None for part in parts):
        return timedelta(days=31)
    return timedelta(days=any(part.usd_per_day is not None for part in parts))
