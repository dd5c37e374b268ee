"""Which levels hold for which machine: how long it may be idle, and which tasks are too small for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property

from fleet.model import Habits, Instance, Offer, Snapshot, Standing, altered
from fleet.planner.demand import Choice, Demand
from fleet.planner.ground import Above, Ground, Levels, Sizes, ground_of, level_key, steps_for
from fleet.planner.idle import idle_timeouts
from fleet.planner.limits import Ledger
from fleet.planner.minimum import kept_by_minimum
from fleet.planner.money import Money
from fleet.planner.steady import SPARE, unsteady
from fleet.planner.stretch import MOST_TASKS
from fleet.planner.worth import above_gpus

# A new machine takes whom it was launched for, also when they are small, until it has had the time to take them.
SETTLES_IN = timedelta(minutes=2)


class Belonging:
    """Which tasks belong on which machines, in one plan."""

    def __init__(self, snapshot: Snapshot, money: Money | None) -> None:
        self._snapshot = snapshot
        self._money = money
        # More tasks on a machine than so many make no difference to what the next one pins.
        self.most_tasks = MOST_TASKS if snapshot.habits.stretch else 1
        self._maps: dict[Above, dict[str, float] | None] = {(): None}
        self._usual: dict[tuple[int, int], Mapping[str, float] | None] = {}  # `above` by offer (its id) and tasks
        self._smaller: dict[int, tuple[tuple[str, tuple[int, ...]], ...]] = {}  # `smaller` by offer (its id)
        self._lifted: set[str] = set()  # queues
        self.new_since = snapshot.at - SETTLES_IN
        # Machines that a minimum keeps: a small task on one costs nothing more.
        self.paid_anyhow = kept_by_minimum(snapshot.resources, snapshot.instances)

    @cached_property
    def _ground(self) -> Ground:
        return ground_of(self._snapshot)

    @property
    def choices(self) -> dict[str, list[Choice]]:
        """What may be launched, by resource."""
        return self._ground.choices

    @cached_property
    def _sizes(self) -> Sizes:
        ledger, snapshot = Ledger.of(self._snapshot, self._money), self._snapshot
        if ledger.is_by_resource:
            # Then it is asked for once.
            resources = {r.name: r for r in snapshot.resources}
            some = {name: choices[0].offer for name, choices in self.choices.items()}
            return self._ground.sizes(
                [
                    frozenset(n for n in q.resources if n in some and not ledger.refusal(some[n], resources[n], q))
                    for q in snapshot.queues
                ]
            )
        sizes = Sizes()
        for queue in snapshot.queues:
            mine = [choice for name in queue.resources for choice in self.choices.get(name, ())]
            able = {c.place for c in mine if not ledger.refusal(c.offer, c.resource, queue)}
            sizes.add(queue, steps_for(queue, self.choices, able), snapshot.habits)
        return sizes

    @cached_property
    def levels(self) -> Levels:
        """What is known by now; see `level_key`."""
        return {} if self._lifted else self._sizes.levels

    @property
    def is_plain(self) -> bool:
        """No machine is ever too large for a task."""
        return not self._sizes.scales

    def above(self, instance: Instance) -> Mapping[str, float] | None:
        """By queue: tasks of up to so many GPUs do not belong on this instance. None: all do."""
        tasks, enrolled_at = len(instance.allocations), instance.enrolled_at
        is_usual = (tasks or (enrolled_at and enrolled_at <= self.new_since)) and instance.id not in self.paid_anyhow
        key = id(instance.offer), tasks  # many machines are of one offer
        if is_usual and key in self._usual:
            return self._usual[key]
        found = self._map(self.above_gpus(instance))
        if is_usual and not self._lifted:
            self._usual[key] = found
        return found

    def _map(self, above: Above) -> Mapping[str, float] | None:
        if above not in self._maps:
            self._maps[above] = dict(above)
        return self._maps[above]

    def above_gpus(self, instance: Instance) -> Above:
        """The same, as it is told to the instance."""
        if not self._sizes.scales or instance.id in self.paid_anyhow:
            return ()
        tasks = len(instance.allocations)
        if not tasks and self._is_settling_in(instance):
            scales = self._sizes.scales.get(instance.offer.resource, {})
            levels = instance.standing.above_gpus
            if not self._lifted and all([queue in scales for queue, _ in levels]):  # noqa: C419 (in half the time)
                return levels
            return tuple((q, gpus) for q, gpus in levels if q in scales and q not in self._lifted)
        return self._above(instance.offer, tasks)

    def smaller(self, offer: Offer) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """By queue, what goes before a machine of this offer, which is launched now. It is told once: sizes seldom change."""
        known = self._smaller.get(id(offer))  # many machines are of one offer
        if known is None:
            scales = sorted(self._sizes.scales.get(offer.resource, {}).items())
            known = self._smaller[id(offer)] = tuple(
                (q, sizes) for q, scale in scales if (sizes := scale.smaller(offer))
            )
        return known

    def lift(self, queue: str) -> None:
        """No smaller machine can be had for some task of this queue: in this plan, and until the next, all may take it."""
        self._lifted.add(queue)
        self._usual.clear()
        self.__dict__.pop("levels", None)  # what follows is of this plan alone
        for levels in self._maps.values():  # rooms of this plan look into these
            if levels is not None:
                levels.pop(queue, None)

    def of_new(self, choice: Choice, tasks: int, seated: Sequence[Demand]) -> Mapping[str, float] | None:
        """The same for a machine that is launched now, for `tasks` of these classes: they do belong on it."""
        if not self._sizes.scales:
            return None
        found = dict(self._above(choice.offer, tasks))
        for demand in seated:
            name, needs = demand.queue.name, demand.fits.wish.at_least
            if needs <= found.get(name, -1.0):
                # The class that is smallest rules; without GPUs there is nothing smaller.
                del found[name]
        return found

    def _above(self, offer: Offer, tasks: int) -> Above:
        tasks = min(tasks, self.most_tasks)
        key = level_key(offer, tasks)
        known = self.levels.get(key)
        if known is None:
            found = above_gpus(offer, tasks, self._sizes.scales.get(offer.resource, {}))
            if self._lifted:
                found = [level for level in found if level[0] not in self._lifted]
            known = self.levels[key] = tuple(sorted(found)) if len(found) > 1 else tuple(found)
        return known

    def _is_settling_in(self, instance: Instance) -> bool:
        return instance.enrolled_at is None or instance.enrolled_at > self.new_since


def standings(snapshot: Snapshot, belonging: Belonging) -> tuple[tuple[str, Standing], ...]:
    """Those that differ from what is in force."""
    auto = {r.name: r.is_idle_auto for r in snapshot.resources if r.is_idle_auto}
    timeouts = idle_timeouts(snapshot.instances, snapshot.habits, auto) if _has_learned(snapshot.habits) else {}
    # While nothing waits, only what is empty is looked at: that is what a small task would pin for nothing.
    several: Sequence[Instance] = snapshot.instances
    if not snapshot.tasks:
        several = [i for i in unsteady(snapshot.instances) if not i.allocations]
    # Where nothing smaller can be had any more, what was said before has to be taken back.
    if not several or (not timeouts and belonging.is_plain and not any(i.standing.above_gpus for i in several)):
        return ()
    found = []
    look_up, paid, most, new_since = (
        belonging.above_gpus,
        belonging.paid_anyhow,
        belonging.most_tasks,
        belonging.new_since,
    )
    agreed = _agreed_under(belonging.levels, len(snapshot.instances))
    if snapshot.tasks and not paid:
        several = [i for i in several if agreed.get(i.id) is not i]
    # Of thousands of machines many are of one offer, and have as many tasks: as `level_key` has it, by the id of the offer.
    known: list[dict[int, Above]] = [{} for _ in range(most + 1)]
    for instance in several:
        now, enrolled_at, tasks = instance.standing, instance.enrolled_at, len(instance.allocations)
        if (tasks or (enrolled_at and enrolled_at <= new_since)) and not (paid and instance.id in paid):
            alike, offer = known[tasks if tasks < most else most], id(instance.offer)
            above = alike.get(offer)
            if above is None:
                above = alike[offer] = look_up(instance)
        else:
            above = look_up(instance)
        idle = timeouts.get(instance.id, now.idle_timeout) if timeouts else now.idle_timeout
        has_settled = now.meant_for and enrolled_at
        # Most stay as they are: that is found before anything is made.
        if above == now.above_gpus and not has_settled and (idle is now.idle_timeout or idle == now.idle_timeout):
            if tasks and not paid:  # how long an empty one stays depends on all the others
                agreed[instance.id] = instance
            continue
        if instance.is_taking_tasks:
            meant_for = () if has_settled else now.meant_for
            found.append((instance.id, altered(now, idle_timeout=idle, above_gpus=above, meant_for=meant_for)))
    return tuple(found)


# The levels of the last plan, and the machines with tasks that had been told them. They hear nothing new until either changes:
# that is a shortcut, not a memory (as in `fleet.planner.ground`).
_agreed: list[tuple[Levels, dict[str, Instance]]] = []


def _agreed_under(levels: Levels, count: int) -> dict[str, Instance]:
    """By instance, those that are known to have been told these levels; `count`: how many there are."""
    if not _agreed or _agreed[0][0] is not levels or len(_agreed[0][1]) > 2 * count + SPARE:
        _agreed[:] = [(levels, {})]
    return _agreed[0][1]


def settled_at(snapshot: Snapshot, belonging: Belonging) -> datetime | None:
    """When the next new machine that has no task yet will have settled; None: none is settling."""
    since = snapshot.at - SETTLES_IN
    others = unsteady(snapshot.instances)
    new = [i.enrolled_at for i in others if not i.allocations and i.enrolled_at and i.enrolled_at > since]
    return min(new) + SETTLES_IN if new and not belonging.is_plain else None


def _has_learned(habits: Habits) -> bool:
    return bool(habits.bands)
