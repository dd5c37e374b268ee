"""plan(snapshot): demand minus what is free or coming, the rest by the cheapest mix of machines, within the limits.

Pure: the same snapshot gives the same plan, ids included. Every action and every non-action carries a Reason.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property

from fleet.model import (
    Action,
    CancelDrain,
    Drain,
    Instance,
    InstanceState,
    Launch,
    Plan,
    Queue,
    Reason,
    Snapshot,
    Standing,
    Task,
    Terminate,
    Turns,
    Waiting,
)
from fleet.planner import headroom, warm
from fleet.planner.advice import advise, unmet
from fleet.planner.alternatives import Alternatives
from fleet.planner.capacity import Fits, Room, Walk, Wish, on_nobodys_account
from fleet.planner.demand import Choice, Demand, in_order, ranked
from fleet.planner.enforce import Enforcement, enforce, may_order, staying
from fleet.planner.fairness import share_words, uses_of
from fleet.planner.gangs import Gangs
from fleet.planner.holds import Holds
from fleet.planner.idle import RUNNING, patience_s
from fleet.planner.limits import Ledger
from fleet.planner.minimum import kept_by_minimum
from fleet.planner.money import Money, has_budgets
from fleet.planner.reaper import reap
from fleet.planner.reasons import for_each_of, kept_from, launched_for, no_fit, rival_of, soon_free
from fleet.planner.rooms import add_full, rooms_of
from fleet.planner.said import goes_to, remember, waits
from fleet.planner.schedule import keep_to_windows, taken_back
from fleet.planner.sick import replace_sick
from fleet.planner.spot import SpotWaits, next_turn, return_to_spot
from fleet.planner.standing import Belonging, settled_at, standings
from fleet.planner.stretch import mean_s
from fleet.planner.work import has_work, is_for_gpus, is_too_wide_for_all


def plan(snapshot: Snapshot) -> Plan:
    """What to launch and end now, and for every waiting task where it will go or why it must wait."""
    # Nothing that is made here becomes garbage before the plan is made, and there is much of it: to look for some, again
    # and again, takes as long as the plan itself.
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        return _planned(snapshot)
    finally:
        if is_collecting:
            gc.enable()


def _planned(snapshot: Snapshot) -> Plan:
    returns, look_at = return_to_spot(snapshot)
    ends: tuple[Terminate | Drain, ...] = (*reap(snapshot), *returns)
    ends = (*ends, *replace_sick(snapshot, {e.instance for e in ends}))
    ending = {e.instance for e in ends}
    windows = keep_to_windows(snapshot, ending)
    if windows:
        snapshot = _with_windows(snapshot, windows)
    is_work = has_work(snapshot)
    money = Money(snapshot) if may_order(snapshot) or (is_work and has_budgets(snapshot)) else None
    orders = enforce(snapshot, money, ending) if money else Enforcement()
    belonging = Belonging(snapshot, money)
    # Most passes find nothing to do: then nobody need look at what there is.
    is_looked_at = is_work and not is_too_wide_for_all(snapshot)
    there = staying(snapshot.instances, orders, ending) if is_looked_at else ()
    draft = _Draft(snapshot, there, money, belonging) if is_work else None
    launches, waiting = draft.made() if draft else ((), ())
    actions: tuple[Action, ...] = (*ends, *windows, *orders.all(), *launches)
    kept, notes = (frozenset(draft.kept), tuple(draft.notes)) if draft else (frozenset[str](), ())
    turns, holds_at = draft.turns() if draft else (Turns(fairness=snapshot.fairness), None)
    times = [
        look_at,
        next_turn(snapshot),
        settled_at(snapshot, belonging),
        orders.wake_at,
        money and money.wake_at,
        draft and draft.wake_at,
        holds_at,
    ]
    return Plan(
        pass_id=snapshot.pass_id,
        at=snapshot.at,
        actions=actions,
        waiting=waiting,
        kept=kept,
        notes=notes,
        standings=standings(snapshot, belonging),
        turns=turns,
        wake_at=min([at for at in times if at], default=None),
    )


def _with_windows(snapshot: Snapshot, orders: Iterable[Drain | CancelDrain]) -> Snapshot:
    """The world as these orders leave it: nobody waits for a machine that is to end, one that stays takes tasks again."""
    back = {order.instance: isinstance(order, CancelDrain) for order in orders}
    instances = (
        i if i.id not in back else taken_back(i) if back[i.id] else replace(i, drain_requested_at=snapshot.at)
        for i in snapshot.instances
    )
    return replace(snapshot, instances=tuple(instances))


class _Draft:
    """The plan while it is made."""

    def __init__(
        self, snapshot: Snapshot, there: Sequence[Instance], money: Money | None, belonging: Belonging
    ) -> None:
        """`there`: what does not end now."""
        self.snapshot = snapshot
        self.belonging = belonging
        is_partial = is_for_gpus(snapshot)
        self.rooms = rooms_of(there, snapshot.resources, snapshot.queues, belonging.above, is_for_gpus=is_partial)
        self._left_out = there if is_partial else ()  # some of these
        self._coming_for = {task: r for rooms in self.rooms.values() for r in rooms for task in r.launched_for}
        self._nobodys = on_nobodys_account(self.rooms) if self._coming_for else None
        self.ledger = Ledger.of(snapshot, money)
        self.has_user_budgets = bool(snapshot.budget.per_user or snapshot.budget.users)
        self.queues = {q.name: q for q in snapshot.queues}
        self.choices = belonging.choices
        self.waiting: list[Waiting] = []
        self.kept: set[str] = kept_by_minimum(snapshot.resources, there)
        self.notes: list[Reason] = []
        self.new: list[tuple[Room, Reason]] = []
        self.wake_at: datetime | None = None
        self.order = in_order(snapshot)
        self.share_words = share_words(self.order)
        self.gangs = Gangs(snapshot, self.rooms)  # before the holds of others, as at the edge
        self.holds = Holds(snapshot, self.rooms)
        self.spot_waits = SpotWaits(snapshot)
        self._demands: dict[tuple[str, float, str | None, float | None, str | None, int], Demand] = {}
        self._fits: dict[Wish, Fits] = {}
        self._by_kind: dict[int, Demand] = {}
        self._lost: dict[tuple[int, int], str] = {}  # by class and chosen offer: the alternative that lost, in words
        self._rivals: dict[str, str] = {}  # the same by new machine
        self._queue_of: dict[str, str] = {}  # of the tasks for which machines are launched
        # Machines with tasks, by resource and type, as far as somebody asked.
        self._busy: dict[tuple[str, str], int] = {}
        self._there: dict[str, list[Room]] | None = None  # the rooms on machines that run

    def made(self) -> tuple[tuple[Launch, ...], tuple[Waiting, ...]]:
        """What to launch, and what becomes of every task that waits."""
        # Where people share, whose turn it is depends on what others get: then the mix is for about those who need it.
        tasks = self.snapshot.tasks if self.order.is_fair else tuple(self.order)
        pairs = [(task, self._demand_of(task)) for task in tasks]
        left = unmet(pairs, self.rooms, self.holds.seated)
        if left:
            advise(tuple(self._demands.values()), left, self.snapshot.habits, self._may_launch)
        for task, demand in ((t, self._demand_of(t)) for t in self.order) if self.order.is_fair else pairs:
            self.place(task, demand)
        self.keep_minimum()
        self.keep_headroom()
        remember(self.waiting)
        return tuple(self.launches()), tuple(self.waiting)

    def place(self, task: Task, demand: Demand) -> None:
        """Find room for a task that waits: free, coming, or launched for it; else say why not."""
        if task.instances > 1 and not task.gang:
            self._place_gang(task, demand)
            return
        found = self._held_room(demand, task) or self._room(demand, task)
        if isinstance(found, Reason):
            if self._left_out and self.holds.may_hold_for(task):
                add_full(self.rooms, self._left_out, self.snapshot.queues, self.belonging.above)
                self._left_out = ()
            self.holds.refused(task, demand)
            if demand.spot_wait and found.code == "backoff":
                found = demand.spot_wait.reason(task, self.snapshot.at)
            self.waiting.append(waits(found, task, self.share_words.get(task.queue, "")))
            return
        if found.tasks is not None:
            found.tasks.append(task.id)
            self._queue_of[task.id] = task.queue
        self.holds.placed(task, found)
        self.order.gave(task, task.need.at_least)
        self.waiting.append(goes_to(found, task))

    def _place_gang(self, task: Task, demand: Demand) -> None:
        is_starving = self.holds.is_starving(task)
        room, reason = self.gangs.place(task, demand, self.ledger, self._add, is_starving=is_starving)
        if room:
            self.order.gave(task, task.instances * task.need.at_least)
        elif not demand.choices and not any(demand.fits[r.shape] for walk in demand.walks for r in walk.rooms):
            reason = for_each_of(task, no_fit(demand.fits.wish, demand.queue, self.choices))
        instance = room.instance if room else None
        self.waiting.append(Waiting(task=task.id, queue=task.queue, reason=reason, instance=instance))

    def turns(self) -> tuple[Turns, datetime | None]:
        """What supervisors are told, and when time alone will change it."""
        uses = uses_of(self.snapshot.instances) if self.order.is_fair else ()
        holds = (*self.holds.made, *self.gangs.holds)
        turns = Turns(fairness=self.snapshot.fairness, uses=uses, holds=holds, gangs=self.gangs.running)
        times = [at for at in (self.holds.wake_at, self.gangs.wake_at) if at]
        return turns, min(times, default=None)

    def keep_minimum(self) -> None:
        """Launch what `min_instances` asks for beyond what demand has brought."""
        for resource in self.snapshot.resources:
            for count in range(len(self.rooms[resource.name]), resource.min_instances):
                choice = warm.choose(self.choices.get(resource.name, ()), self.ledger)
                if not isinstance(choice, Choice):
                    self.notes.append(warm.not_kept(resource, count, choice))
                    break
                self._add(choice, warm.reason_of(resource))

    def keep_headroom(self) -> None:
        """Keep and launch what `headroom` asks for beyond what waits; where tasks wait at a limit, they come first."""
        for queue in headroom.wanted_by(self.snapshot.queues):
            limits = (d.refusal.limit for d in self._demands.values() if d.refusal and d.refusal.limit)
            limit = headroom.yields_to(queue, limits)
            demand = headroom.demand_of(self._demand(queue, headroom.wish_of(queue)), self.kept)
            found = [] if limit else [room.instance for room in headroom.place(demand, self._launch)]
            self.kept.update(found)
            if len(found) < queue.headroom:
                refusal = None if limit else self._refusal(demand)
                self.notes.append(headroom.not_kept(queue, len(found), refusal, limit))

    def launches(self) -> Iterator[Launch]:
        for room, reason in self.new:
            tasks = tuple(room.tasks or ())
            lost = self.spot_waits.lost(room.offer, self.choices) or self._rivals.get(room.instance, "")
            queues = tuple(dict.fromkeys(self._queue_of.get(task, reason.queue or "") for task in tasks))
            why = launched_for(tasks, queues, reason, lost) if tasks else reason
            above = tuple(sorted(room.above_gpus.items())) if room.above_gpus else ()
            standing = Standing(above_gpus=above, smaller=self.belonging.smaller(room.offer), meant_for=tasks)
            others = self._others.of(room.offer, tasks) if room.offer.may_vary else ()
            yield Launch(
                instance=room.instance,
                offer=room.offer,
                tasks=tasks,
                reason=why,
                standing=standing,
                alternatives=others,
            )

    @cached_property
    def _others(self) -> Alternatives:
        return Alternatives(self.snapshot.tasks, self.choices)

    def _demand_of(self, task: Task) -> Demand:
        user = task.user if self.has_user_budgets else None
        key = (task.queue, task.need.at_least, task.gpu_type, task.gpu_memory_gib, user, self.spot_waits.patience(task))
        demand = self._demands.get(key)
        if demand is None:
            demand = self._demands[key] = self._demand(self.queues[task.queue], Wish(*key[1:4]), *key[4:])
        return demand

    def _demand(self, queue: Queue, wish: Wish, user: str | None = None, patience: int = 0) -> Demand:
        fits = self._fits.setdefault(wish, Fits(wish))
        walks = [Walk(self.rooms[name]) for name in queue.resources]
        reason = Reason(code="demand", text=f"tasks wait in queue {queue.name}", queue=queue.name, user=user)
        choices, ranks = ranked(fits, queue, self.choices)
        able, spot_wait = self.spot_waits.apply(choices, patience)
        kind = len(self._by_kind)
        made = Demand(kind, queue, fits, reason, walks, able, ranks, spot_wait=spot_wait)
        made.walks_first = [Walk(self._nobodys[name]) for name in queue.resources] if self._nobodys else ()
        self._by_kind[kind] = made
        return made

    def _may_launch(self, choice: Choice, demand: Demand) -> bool:
        user = demand.reason.user
        return choice.backoff is None and not self.ledger.refusal(choice.offer, choice.resource, demand.queue, user)

    def _held_room(self, demand: Demand, task: Task) -> Room | None:
        """Room that is there for this very task: on the machine that is on its way for it, or held for it or for its gang."""
        if held := self.holds.room_for(task):
            return held
        room = self._coming_for.get(task.id)
        if room is not None and demand.may_use(room) and room.take(demand.fits.wish, demand.queue, demand.kind):
            return room
        return self.gangs.node_room(task) if task.gang else None

    def _room(self, demand: Demand, task: Task) -> Room | Reason:
        """Room for this task of the class, launched if need be, or why there is none."""
        # If no machine was added since all refused this class, the next of it need not look.
        if demand.refusal and demand.refused_at == len(self.new):
            return demand.refusal
        put_off = None if demand.refusal else self._patience(demand, task)
        # What is on its way was launched for those who waited longer: were it taken from them, one more would be launched.
        for walk in self._walks_there(demand) if put_off else (*demand.walks_first, *demand.walks):
            if walk.place < len(walk.rooms) and (room := walk.take(demand.fits, demand.queue, demand.kind)):
                return room
        if demand.refusal is None:
            if put_off:
                until, reason = put_off
                self.wake_at = min(until, self.wake_at or until)
                return reason
            if launched := self._launch(demand):
                return launched
            demand.refusal = self._refusal(demand)
            if self._is_left_to_others(demand) and (room := self._any_room(demand)):
                demand.refusal = None
                return room
        demand.refused_at = len(self.new)
        return demand.refusal

    def _is_left_to_others(self, demand: Demand) -> bool:
        """Whether a machine with room for it is there, but too large for it, in vain: there is no smaller one to be had."""
        if self.belonging.is_plain:
            return False
        name, wish = demand.queue.name, demand.fits.wish
        rooms = (room for walk in demand.walks for room in walk.rooms if room.is_above(wish, name))
        if not any(demand.fits[room.shape] and room.free_gpus >= min(wish.at_least, 1) for room in rooms):
            return False
        self.belonging.lift(name)
        return True

    def _any_room(self, demand: Demand) -> Room | None:
        """Room on a machine that was too large for it, now that there is no smaller one to be had."""
        demand.walks = [Walk(self.rooms[name]) for name in demand.queue.resources]
        return next((room for w in demand.walks if (room := w.take(demand.fits, demand.queue, demand.kind))), None)

    def _walks_there(self, demand: Demand) -> Sequence[Walk]:
        """Through the machines that run already."""
        if demand.walks_there is None:
            if self._there is None:
                self._there = {n: [r for r in rooms if r.state in RUNNING] for n, rooms in self.rooms.items()}
            demand.walks_there = [Walk(self._there[name]) for name in demand.queue.resources]
        return demand.walks_there

    def _patience(self, demand: Demand, task: Task) -> tuple[datetime, Reason] | None:
        """Until when no machine is launched for this task, and why: one that runs is likely to become free before."""
        if not self.snapshot.habits.bands or not demand.choices:
            return None
        advice = demand.advice()
        choice = advice.choice if advice else demand.choices[0]
        if not choice.resource.is_idle_auto:
            return None
        kind = resource, type_ = choice.offer.resource, choice.offer.type
        busy = self._busy.get(kind)
        if busy is None:
            mine = [
                1 for i in self.snapshot.instances if i.offer.type == type_ and i.allocations and i.resource == resource
            ]
            busy = self._busy[kind] = len(mine)
        habits = self.snapshot.habits
        runs_s = mean_s(habits, demand.queue.name)
        until = task.enqueued_at + timedelta(seconds=patience_s(habits, kind, busy, runs_s))
        if until <= self.snapshot.at:
            return None
        return until, soon_free(demand.queue, choice.offer, busy, until)

    def _launch(self, demand: Demand) -> Room | None:
        """A new room for this class: as the mix advises, else of the best offer that no limit refuses."""
        while advice := demand.advice():
            demand.advised.pop()
            if self._may_launch(advice.choice, demand):
                advice.is_taken = True
                return self._seated(demand, advice.choice, dict(advice.seats))
        while demand.next_choice < len(demand.choices):
            choice = demand.choices[demand.next_choice]
            if self._may_launch(choice, demand):
                return self._seated(demand, choice, None)
            demand.next_choice += 1
        return None

    def _seated(self, demand: Demand, choice: Choice, seats: dict[int, int] | None) -> Room:
        room = self._add(choice, demand.reason)
        kinds = [self._by_kind[kind] for kind in seats] if seats and len(seats) > 1 else (demand,)
        lost = self._lost.get((demand.kind, choice.place))
        if lost is None:
            lost = self._lost[demand.kind, choice.place] = rival_of(choice, demand.choices)
        self._rivals[room.instance] = lost
        room.above_gpus = self.belonging.of_new(choice, sum((seats or {}).values()) or 1, kinds)
        room.seats = seats
        room.take(demand.fits.wish, demand.queue, demand.kind)
        return room

    def _refusal(self, demand: Demand) -> Reason:
        """Why this class gets no machine: what refused the offer that it would like best."""
        for choice in demand.choices:
            refusal = choice.backoff or self.ledger.refusal(
                choice.offer, choice.resource, demand.queue, demand.reason.user
            )
            if refusal:
                return kept_from(demand, refusal)
        return no_fit(demand.fits.wish, demand.queue, self.choices)

    def _add(self, choice: Choice, reason: Reason) -> Room:
        instance = f"{self.snapshot.pass_id}-{len(self.new)}"
        gpus = choice.shape.gpus
        room = Room(instance, choice.offer, InstanceState.REQUESTED, choice.shape, gpus, tasks=[])
        self.rooms[choice.resource.name].append(room)
        self.new.append((room, reason))
        self.ledger.add(choice.offer, reason.queue, reason.user)
        return room
