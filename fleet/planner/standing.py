"""Which levels hold for which machine: how long it may be idle, and which tasks are too small for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property

from fleet.model import Habits, Instance, Offer, Queue, Snapshot, Standing
from fleet.planner.capacity import Fits, Wish
from fleet.planner.demand import Choice, Demand, choices_of, ranked
from fleet.planner.idle import idle_timeouts
from fleet.planner.limits import Ledger
from fleet.planner.money import Money
from fleet.planner.worth import Alternative, above_gpus, steps_of

# A new machine takes whom it was launched for, also when they are small, until it has had the time to take them.
SETTLES_IN = timedelta(minutes=2)


class Belonging:
    """Which tasks belong on which machines, in one plan."""

    def __init__(self, snapshot: Snapshot, money: Money | None) -> None:
        self._snapshot = snapshot
        self._money = money
        self._known: dict[tuple[str, str, float | None, int], Mapping[str, float]] = {}
        self._of: dict[str, Mapping[str, float]] = {}  # by instance

    @cached_property
    def choices(self) -> dict[str, list[Choice]]:
        """What may be launched, by resource."""
        return choices_of(self._snapshot)

    @cached_property
    def _steps(self) -> dict[str, dict[str, Sequence[Alternative]]]:
        """By resource, then by queue that it serves: what may be launched now for plain tasks of the queue."""
        ledger = Ledger.of(self._snapshot, self._money)
        found: dict[str, dict[str, Sequence[Alternative]]] = {}
        alike: dict[object, Sequence[Alternative]] = {}  # queues that may launch the same
        for queue in self._snapshot.queues:
            has_limits = self._money is not None or queue.max_instances is not None
            kind = queue.name if has_limits else (queue.resources, queue.order)
            if kind not in alike:
                alike[kind] = self._steps_of(queue, ledger)
            steps = alike[kind]
            if len(steps) > 1:  # else nothing can be smaller and cheaper
                for name in queue.resources:
                    found.setdefault(name, {})[queue.name] = steps
        return found

    def _steps_of(self, queue: Queue, ledger: Ledger) -> Sequence[Alternative]:
        fits = Fits(Wish(0, None, None))  # a machine of any size
        choices, ranks = ranked(fits, queue, self.choices)
        able = [
            (rank, choice)
            for rank, choice in zip(ranks, choices, strict=True)
            if choice.usd is not None
            and not choice.backoff
            and not ledger.refusal(choice.offer, choice.resource, queue)
        ]
        # GPUs that the queue would rather not have do not compete with those that it prefers.
        return steps_of(choice.offer for rank, choice in able if rank == able[0][0])

    @property
    def is_plain(self) -> bool:
        """No machine is ever too large for a task."""
        return not self._steps

    def above(self, instance: Instance) -> Mapping[str, float] | None:
        """By queue: tasks of up to so many GPUs do not belong on this instance. None: all do."""
        if not self._steps:
            return None
        found = self._of.get(instance.id)
        if found is None:
            if self._is_settling_in(instance):
                found = dict(instance.standing.above_gpus)
            else:
                found = self._above(instance.offer, len(instance.allocations))
            self._of[instance.id] = found
        return found

    def of_new(self, choice: Choice, tasks: int, seated: Sequence[Demand]) -> Mapping[str, float] | None:
        """The same for a machine that is launched now, for `tasks` of these classes: they do belong on it."""
        if not self._steps:
            return None
        found = dict(self._above(choice.offer, tasks))
        for demand in seated:
            name, needs = demand.queue.name, demand.fits.wish.at_least
            if needs <= found.get(name, -1.0):
                # The class that is smallest rules; without GPUs there is nothing smaller.
                del found[name]
        return found

    def _above(self, offer: Offer, tasks: int) -> Mapping[str, float]:
        key = (offer.resource, offer.type, offer.price_usd_per_hour, tasks)
        known = self._known.get(key)
        if known is None:
            queues = self._steps.get(offer.resource, {})
            known = self._known[key] = dict(above_gpus(offer, tasks, queues, self._snapshot.habits))
        return known

    def _is_settling_in(self, instance: Instance) -> bool:
        if instance.allocations:
            return False
        return instance.enrolled_at is None or self._snapshot.at - instance.enrolled_at < SETTLES_IN


def standings(snapshot: Snapshot, belonging: Belonging) -> tuple[tuple[str, Standing], ...]:
    """Those that differ from what is in force."""
    auto = {r.name: r.is_idle_auto for r in snapshot.resources if r.is_idle_auto}
    timeouts = idle_timeouts(snapshot.instances, snapshot.habits, auto) if _has_learned(snapshot.habits) else {}
    if not timeouts and belonging.is_plain:
        return ()
    found = []
    for instance in snapshot.instances:
        if not instance.is_taking_tasks:
            continue
        now = instance.standing
        idle = timeouts.get(instance.id, now.idle_timeout)
        above = belonging.above(instance)
        above_gpus = tuple(sorted(above.items())) if above else ()
        meant_for = () if instance.enrolled_at else now.meant_for
        # Most stay as they are: that is found before anything is made.
        if (idle, above_gpus, meant_for) != (now.idle_timeout, now.above_gpus, now.meant_for):
            found.append((instance.id, Standing(idle_timeout=idle, above_gpus=above_gpus, meant_for=meant_for)))
    return tuple(found)


def _has_learned(habits: Habits) -> bool:
    return bool(habits.bands)
