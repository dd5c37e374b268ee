"""Which machine is held for a large task that waits, so that small ones do not pass it for ever (docs/adr/0012-fairness.md).

A task that finds no room on what is there, and for which nothing may be launched, gets one machine held: what gets free
there is kept for it, and for nothing behind it. All other machines go on with what fits (backfill). One that has waited
longer than `starvation_after` goes before everything on its machine, also before queues of higher priority.

Large is what needs more than gets free by itself: more than one GPU, or, where parts of GPUs are in use, more than the
smallest part.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property

from fleet.model import Hold, Queue, Snapshot, Task
from fleet.planner.capacity import Room, Wish, is_fit
from fleet.planner.demand import Demand
from fleet.planner.steady import unsteady

# Of a resource's GPUs no more than this part may stand idle for holds (a task of four waits beside three at most), but
# one machine may always be held.
PART_HELD = 0.25
# Of all holds of a plan: every heartbeat is answered from them.
MOST_HOLDS = 256


class Holds:
    """The holds of the last plan, and those of this one while it is made."""

    def __init__(self, snapshot: Snapshot, rooms: Mapping[str, Sequence[Room]]) -> None:
        self.made: list[Hold] = []
        self.wake_at: datetime | None = None  # when the next task will have waited too long
        self._at, self._rooms = snapshot.at, rooms
        self._next_at = snapshot.at + snapshot.poll_interval
        self._queues = {queue.name: queue for queue in snapshot.queues}
        self._smallest = _smallest_parts(snapshot)
        self._instances = snapshot.instances
        self._starving = self._find_starving(snapshot)
        self._starving_left = sum(self._starving.values())
        self._open: dict[str, float] = {}  # how many GPUs of a resource may still stand idle
        self._held: dict[str, int] = {}  # machines by resource
        self._best: dict[int, Iterator[Room]] = {}  # by class
        self._before = {hold.task: hold for hold in snapshot.holds if hold.gang_gpus is None}
        self._aside: dict[str, Room] = {}
        self._seated: dict[str, Room] = {}
        if self._before:
            self._set_aside(snapshot)

    def room_for(self, task: Task) -> Room | None:
        """The machine that was held for it, if it has room for it by now."""
        return self._seated.get(task.id)

    @property
    def seated(self) -> Container[str]:
        """Tasks that have room before anybody is asked."""
        return self._seated

    def placed(self, task: Task, room: Room) -> None:
        """A starving task found room: nobody shall be faster there, and what was held for it elsewhere is so no more."""
        if task.id in self._aside:
            self._aside.pop(task.id).release()
        if task.id in self._starving:
            self._starving_left -= self._starving[task.id]
            if room.tasks is not None:  # launched by this plan: the next one holds it
                self.wake_at = min(self._next_at, self.wake_at or self._next_at)
            elif len(self.made) < MOST_HOLDS:
                self._hold(task, room)

    def may_hold_for(self, task: Task) -> bool:
        """Whether a task that has to wait may have a machine held: it needs more than what gets free by itself."""
        return self._most_idle(task) > 0 and len(self.made) < MOST_HOLDS

    def refused(self, task: Task, demand: Demand) -> None:
        """Hold a machine for a task that has to wait, if it may have one."""
        if not self.may_hold_for(task):
            return
        self._starving_left -= self._starving.get(task.id, 0)
        room = self._aside.get(task.id)
        if room is None:
            room = self._choose(task, demand, 0 if task.id in self._starving else self._starving_left)
        if room is not None:
            if room.kept_for != task.id:
                self._count(room, task)
                room.keep_for(task.id, task.need.at_least)
            self._hold(task, room)

    @cached_property
    def _busy(self) -> dict[str, int]:
        """How many tasks each machine has."""
        return {i.id: len(i.allocations) for i in self._instances}

    def _find_starving(self, snapshot: Snapshot) -> dict[str, float]:
        """Large tasks that have waited too long, each with the most GPUs that may stand idle for it."""
        after = snapshot.starvation_after
        if after is None:
            return {}
        small = () if self._smallest else (0.0, 1.0)  # nearly all, in most fleets
        large = [
            t for t in snapshot.tasks if t.instances > 1 or (t.need.at_least not in small and self._most_idle(t) > 0)
        ]
        found = {t.id: self._most_idle(t) for t in large if self._at - t.enqueued_at >= after}
        self.wake_at = min((t.enqueued_at + after for t in large if t.id not in found), default=None)
        return found

    def is_starving(self, task: Task) -> bool:
        return task.id in self._starving

    def _set_aside(self, snapshot: Snapshot) -> None:
        """What was held for a starving task goes to it, or stays so, before anything else is planned: as supervisors do it."""
        by_instance = {room.instance: room for rooms in self._rooms.values() for room in rooms}
        first = [t for t in snapshot.tasks if t.id in self._before and self._before[t.id].is_first]
        for task in sorted(first, key=lambda t: (t.enqueued_at, t.id)):
            room, queue = by_instance.get(self._before[task.id].instance), self._queues.get(task.queue)
            if room is None or queue is None or room.kept_for or not _is_for(room, task, queue):
                continue
            if room.seat(task.need.at_least, queue):
                self._seated[task.id] = room
            else:
                self._count(room, task)
                room.keep_for(task.id, task.need.at_least)
                self._aside[task.id] = room

    def _choose(self, task: Task, demand: Demand, spared: float) -> Room | None:
        """The machine held before, else the one with the most of it free; on a tie the one with the fewest tasks to wait for."""
        idle = spared + self._most_idle(task)
        if not any(self._may_hold_one(name, idle, spared) for name in demand.queue.resources):
            return None
        before = self._before.get(task.id)
        if before:
            for walk in demand.walks:
                for room in walk.rooms:
                    is_it = room.instance == before.instance and self._is_able(room, demand)
                    if is_it and self._may_hold(room, idle, spared):
                        return room
        if id(demand) not in self._best:
            fitting = [r for walk in demand.walks for r in walk.rooms if r.tasks is None and self._is_able(r, demand)]
            needs = task.need.at_least
            fitting.sort(key=lambda r: (-r.could_keep(needs), self._busy.get(r.instance, 0), r.instance))
            self._best[id(demand)] = iter(fitting)
        return next((room for room in self._best[id(demand)] if self._may_hold(room, idle, spared)), None)

    def _is_able(self, room: Room, demand: Demand) -> bool:
        """Whether it will do, once enough of it is free, and would not get free by itself."""
        wish = demand.fits.wish
        is_large = wish.at_least > self._smallest.get(room.offer.resource, 1.0)
        return is_large and demand.fits[room.shape] and not room.is_above(wish, demand.queue.name)

    def _may_hold(self, room: Room, idle: float, spared: float) -> bool:
        return room.kept_for is None and self._may_hold_one(room.offer.resource, idle, spared)

    def _may_hold_one(self, resource: str, idle: float, spared: float) -> bool:
        """Whether so many GPUs may stand idle there; `spared` of them for tasks that come first."""
        return self._idle_left(resource) >= idle or not (self._held.get(resource) or spared)

    def _idle_left(self, resource: str) -> float:
        if resource not in self._open:
            self._open[resource] = PART_HELD * sum(room.shape.gpus for room in self._rooms[resource])
        return self._open[resource]

    def _count(self, room: Room, task: Task) -> None:
        resource = room.offer.resource
        self._open[resource] = self._idle_left(resource) - self._most_idle(task)
        self._held[resource] = self._held.get(resource, 0) + 1

    def _hold(self, task: Task, room: Room) -> None:
        before = self._before.get(task.id)
        since = before.since if before and before.instance == room.instance else self._at
        self.made.append(Hold(task=task.id, instance=room.instance, since=since, is_first=self.is_starving(task)))

    def _most_idle(self, task: Task) -> float:
        """How many GPUs stand idle at most while it waits beside them for the last that it needs; 0: it is not large. Gangs
        are counted elsewhere."""
        if task.instances > 1 or not task.need.at_least:
            return 0.0
        smallest = 1.0
        if self._smallest and (queue := self._queues.get(task.queue)):
            smallest = min(self._smallest.get(name, 1.0) for name in queue.resources)
        return max(task.need.at_least - smallest, 0.0)


def _is_for(room: Room, task: Task, queue: Queue) -> bool:
    """Whether such a machine may take it at all, now that it waits there."""
    wish = Wish(task.need.at_least, task.gpu_type, task.gpu_memory_gib)
    is_served = room.offer.resource in queue.resources
    return is_served and is_fit(wish, room.shape) and not room.is_above(wish, queue.name)


def _smallest_parts(snapshot: Snapshot) -> dict[str, float]:
    """By resource: the smallest part of a GPU that is in use there, or waits to be; nothing where none is."""
    found: dict[str, float] = {}
    parts = [
        (i.offer.resource, a.share) for i in unsteady(snapshot.instances) for a in i.allocations if a.share is not None
    ]
    waiting = {(t.queue, t.need.at_least) for t in snapshot.tasks}
    resources = {queue.name: queue.resources for queue in snapshot.queues}
    parts += [(name, share) for queue, share in waiting if 0 < share < 1 for name in resources.get(queue, ())]
    for name, share in parts:
        found[name] = min(found.get(name, 1.0), share)
    return found
