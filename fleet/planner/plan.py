"""plan(snapshot): demand minus what is free or coming, per queue, its resources in order, within the limits.

Pure: the same snapshot gives the same plan, ids included. Every action and every non-action carries a Reason.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from datetime import datetime

from fleet.model import Action, InstanceState, Launch, Plan, Queue, Reason, Snapshot, Task, Turns, Waiting
from fleet.planner.capacity import Fits, Room, Walk, Wish, rooms_of
from fleet.planner.demand import Choice, Demand, choices_of, fitting, in_order
from fleet.planner.fairness import share_words, uses_of
from fleet.planner.gangs import Gangs
from fleet.planner.holds import Holds
from fleet.planner.limits import Ledger
from fleet.planner.reaper import reap
from fleet.planner.reasons import goes_to, kept_from, launched_for, no_fit, waits


def plan(snapshot: Snapshot) -> Plan:
    """What to launch and end now, and for every waiting task where it will go or why it must wait."""
    ends = reap(snapshot)
    # Most passes find nothing to do: then nobody need look at what there is.
    draft = _Draft(snapshot, {e.instance for e in ends}) if _has_work(snapshot) else None
    launches, waiting = draft.made() if draft else ((), ())
    actions: tuple[Action, ...] = (*ends, *launches)
    turns, wake_at = draft.turns() if draft else (Turns(fairness=snapshot.fairness), None)
    return Plan(
        pass_id=snapshot.pass_id, at=snapshot.at, actions=actions, waiting=waiting, turns=turns, wake_at=wake_at
    )


def _has_work(snapshot: Snapshot) -> bool:
    return bool(snapshot.tasks or snapshot.holds) or any(r.min_instances for r in snapshot.resources)


class _Draft:
    """The plan while it is made."""

    def __init__(self, snapshot: Snapshot, ending: Container[str]) -> None:
        self.snapshot = snapshot
        self.rooms = rooms_of(
            [i for i in snapshot.instances if i.id not in ending], snapshot.resources, snapshot.queues
        )
        self.ledger = Ledger.of(snapshot)
        self.queues = {q.name: q for q in snapshot.queues}
        self.choices = choices_of(snapshot)
        self.waiting: list[Waiting] = []
        self.new: list[tuple[Room, Reason]] = []
        self.order = in_order(snapshot)
        self.share_words = share_words(self.order)
        self.holds = Holds(snapshot, self.rooms)
        self.gangs = Gangs(snapshot, self.rooms)
        self._demands: dict[tuple[str, float, str | None, float | None], Demand] = {}
        self._fits: dict[Wish, Fits] = {}

    def made(self) -> tuple[tuple[Launch, ...], tuple[Waiting, ...]]:
        """What to launch, and what becomes of every task that waits."""
        for task in self.order:
            self.place(task)
        self.keep_minimum()
        return tuple(self.launches()), tuple(self.waiting)

    def place(self, task: Task) -> None:
        """Find room for a task that waits: free, coming, or launched for it; else say why not."""
        key = (task.queue, task.need.at_least, task.gpu_type, task.gpu_memory_gib)
        demand = self._demands.get(key)
        if demand is None:
            demand = self._demands[key] = self._demand(self.queues[task.queue], Wish(*key[1:]))
        if task.instances > 1 and not task.gang:
            self._place_gang(task, demand)
            return
        found = self.holds.room_for(task) or (task.gang and self.gangs.node_room(task)) or self._room(demand)
        if isinstance(found, Reason):
            self.holds.refused(task, demand)
            self.waiting.append(waits(found, task, self.share_words.get(task.queue, "")))
            return
        if found.tasks is not None:
            found.tasks.append(task.id)
        self.holds.placed(task, found)
        self.order.gave(task, task.need.at_least)
        self.waiting.append(goes_to(found, task))

    def _place_gang(self, task: Task, demand: Demand) -> None:
        is_starving = self.holds.is_starving(task)
        room, reason = self.gangs.place(task, demand, self.ledger, self._add, is_starving=is_starving)
        if room:
            self.order.gave(task, task.instances * task.need.at_least)
        instance = room.instance if room else None
        self.waiting.append(Waiting(task=task.id, queue=task.queue, reason=reason, instance=instance))

    def keep_minimum(self) -> None:
        """Launch what `min_instances` asks for beyond what demand has brought."""
        for resource in self.snapshot.resources:
            for _ in range(resource.min_instances - len(self.rooms[resource.name])):
                limit = f"resources.{resource.name}.min_instances={resource.min_instances}"
                reason = Reason(code="min_instances", text=f"{limit} are kept at all times", limit=limit)
                choice = next((c for c in self.choices.get(resource.name, ()) if not c.backoff), None)
                if choice is None or self.ledger.refusal(choice.offer, resource, None):
                    break
                self._add(choice, reason)

    def turns(self) -> tuple[Turns, datetime | None]:
        """What supervisors are told, and when time alone will change it."""
        uses = uses_of(self.snapshot.instances) if self.order.is_fair else ()
        holds = (*self.holds.made, *self.gangs.holds)
        turns = Turns(fairness=self.snapshot.fairness, uses=uses, holds=holds, gangs=self.gangs.running)
        times = [at for at in (self.holds.wake_at, self.gangs.wake_at) if at]
        return turns, min(times, default=None)

    def launches(self) -> Iterator[Launch]:
        for room, reason in self.new:
            tasks = tuple(room.tasks or ())
            why = launched_for(tasks, reason.queue) if tasks else reason
            yield Launch(instance=room.instance, offer=room.offer, tasks=tasks, reason=why)

    def _demand(self, queue: Queue, wish: Wish) -> Demand:
        fits = self._fits.setdefault(wish, Fits(wish))
        walks = [Walk(self.rooms[name]) for name in queue.resources]
        reason = Reason(code="demand", text=f"tasks wait in queue {queue.name}", queue=queue.name)
        return Demand(queue, fits, reason, walks, tuple(fitting(fits, queue, self.choices)))

    def _room(self, demand: Demand) -> Room | Reason:
        """Room for this task of the class, launched if need be, or why there is none."""
        # If no machine was added since all refused this class, the next of it need not look.
        if demand.refusal and demand.refused_at == len(self.new):
            return demand.refusal
        for walk in demand.walks:
            if walk.place < len(walk.rooms) and (room := walk.take(demand.fits, demand.queue)):
                return room
        if demand.refusal is None:
            if launched := self._launch(demand):
                return launched
            demand.refusal = self._refusal(demand)
        demand.refused_at = len(self.new)
        return demand.refusal

    def _launch(self, demand: Demand) -> Room | None:
        """A new room for this class, of the first offer that no limit refuses."""
        while demand.next_choice < len(demand.choices):
            choice = demand.choices[demand.next_choice]
            if choice.backoff is None and not self.ledger.refusal(choice.offer, choice.resource, demand.queue):
                room = self._add(choice, demand.reason)
                room.take(demand.fits.wish.at_least, demand.queue)
                return room
            demand.next_choice += 1
        return None

    def _refusal(self, demand: Demand) -> Reason:
        """Why this class gets no machine: what refused the offer that it would like best."""
        for choice in demand.choices:
            refusal = choice.backoff or self.ledger.refusal(choice.offer, choice.resource, demand.queue)
            if refusal:
                return kept_from(demand, refusal)
        return no_fit(demand.fits.wish, demand.queue, self.choices)

    def _add(self, choice: Choice, reason: Reason) -> Room:
        instance = f"{self.snapshot.pass_id}-{len(self.new)}"
        gpus = choice.shape.gpus
        room = Room(instance, choice.offer, InstanceState.REQUESTED, choice.shape, gpus, tasks=[])
        self.rooms[choice.resource.name].append(room)
        self.new.append((room, reason))
        self.ledger.add(choice.offer, reason.queue)
        return room
