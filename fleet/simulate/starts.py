"""What tasks start, held against what the last plan said: who starts where he was to changes nothing that is planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from fleet.model import Plan
from fleet.simulate.agenda import EPOCH
from fleet.simulate.machine import Machine
from fleet.simulate.truth import Attempt, Truth


class Starts:
    """Of one simulation."""

    def __init__(self, truth: Truth, machines: Mapping[str, Machine], lasts: Callable[[str], timedelta]) -> None:
        """`lasts`: how long a run of a task takes from now."""
        self._truth, self._machines, self._lasts = truth, machines, lasts
        self._seen = 0  # so many attempts
        self._enrolled = 0  # machines, since the last look
        self._looked_at = self._planned_at = EPOCH
        self._planned: dict[str, str] = {}  # which machine a task waits for
        self._has_placed_all = False
        # Where some wait at a limit: all machines, as they were when that was planned. None: nobody does, or others started.
        self._there: dict[str, tuple[datetime | None, int, int]] | None = None

    def expect(self, made: Plan) -> None:
        """What this plan says."""
        self._planned = {w.task: w.instance for w in made.waiting if w.instance}
        codes = {w.reason.code for w in made.waiting if not w.instance}
        self._has_placed_all = codes <= {"no_fit"}
        is_at_limit = "max_instances" in codes and codes <= {"no_fit", "max_instances"} and not made.actions
        self._there = self._as_they_are() if is_at_limit else None
        self._planned_at = made.at

    def note_enrolled(self) -> None:
        """A machine is there that was not."""
        self._enrolled += 1

    def look(self, at: datetime) -> tuple[bool, bool, datetime | None]:
        """What became of it since the last look: whether a task took room that was planned for another, who may need a
        machine now; whether anything else happened that was not planned; and when what was planned begins to matter.

        A machine that comes and is full at once with whom the plan sent there leaves all others as they are. Only its own
        levels change, and they count from the end of a task on.
        """
        fresh, self._seen = self._truth.attempts[self._seen :], len(self._truth.attempts)
        if any(self._planned.get(a.task, a.instance) != a.instance for a in fresh):
            self._there = None
        strangers = {a.instance for a in fresh if self._planned.pop(a.task, None) != a.instance}
        is_astray = bool(strangers) and not strangers.isdisjoint(self._planned.values())
        enrolled, self._enrolled = self._enrolled, 0
        looked_at, self._looked_at = self._looked_at, at
        if not fresh:
            return is_astray, bool(enrolled), None
        if strangers or not self._has_placed_all or not all(self._fills(a, n) for a, n in _last_of_each(fresh)):
            return is_astray, True, None
        new = [self._machines[name].enrolled_at or looked_at for name in {a.instance for a in fresh}]
        ends_at = min(a.started_at + self._lasts(a.task) for a in fresh)
        return False, sum(at > looked_at for at in new) != enrolled, ends_at

    def is_as_planned(self) -> bool:
        """Whether some wait at a limit, and machines have become free and were filled again from among them: each has as many
        tasks and as much left as when that was planned. Those that wait still wait for the same."""
        return self._there is not None and self._there == self._as_they_are()

    def _as_they_are(self) -> dict[str, tuple[datetime | None, int, int]]:
        return {name: (m.enrolled_at, m.tasks, m.free) for name, m in self._machines.items()}

    def _fills(self, attempt: Attempt, count: int) -> bool:
        """Whether its machine, on which it is the last of so many starts, was not idle when all was planned, and is full now."""
        machine = self._machines.get(attempt.instance)
        if machine is None or not attempt.gpus or machine.free or machine.enrolled_at is None:
            return False
        return machine.enrolled_at > self._planned_at or machine.tasks > count


def _last_of_each(attempts: list[Attempt]) -> list[tuple[Attempt, int]]:
    """The last start on each machine, and how many there were."""
    counts = Counter(a.instance for a in attempts)
    return [(a, counts[a.instance]) for a in {a.instance: a for a in attempts}.values()]
