"""Which machine is held for a large task that waits, so that small ones do not pass it for ever (docs/adr/0012-fairness.md).

A task that finds no room on what is there, and for which nothing may be launched, gets one machine held: what gets free
there is kept for it, and for nothing behind it. All other machines go on with what fits (backfill). One that has waited
longer than `starvation_after` goes before everything on its machine, also before queues of higher priority.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from fleet.model import Hold, Snapshot, Task
from fleet.planner.capacity import Room
from fleet.planner.demand import Demand

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
        self._busy = {i.id: len(i.allocations) for i in snapshot.instances} if snapshot.tasks else {}
        self._starving = self._find_starving(snapshot)
        self._starving_left = sum(self._starving.values())
        self._open: dict[str, float] = {}  # how many GPUs of a resource may still stand idle
        self._held: dict[str, int] = {}  # machines by resource
        self._best: dict[int, Iterator[Room]] = {}  # by class
        self._before = {hold.task: hold for hold in snapshot.holds if hold.gang_gpus is None}
        self._aside: dict[str, Room] = {}
        if self._before:
            self._set_aside(snapshot)

    def room_for(self, task: Task) -> Room | None:
        """The machine that was held for it, if it has room for it by now."""
        room = self._aside.get(task.id)
        if room is None or room.kept_for != task.id or room.kept_gpus < task.need.at_least:
            return None
        room.free_gpus, room.kept_gpus, room.kept_for = room.kept_gpus - task.need.at_least, 0, None
        return room

    def placed(self, task: Task, room: Room) -> None:
        """A starving task found room: nobody shall be faster there."""
        if task.id in self._starving:
            self._starving_left -= self._starving[task.id]
            if room.tasks is None and len(self.made) < MOST_HOLDS:
                self._hold(task, room)

    def refused(self, task: Task, demand: Demand) -> None:
        """Hold a machine for a task that has to wait, if it needs more than what gets free by itself."""
        if task.need.at_least <= 1 or len(self.made) >= MOST_HOLDS:
            return
        self._starving_left -= self._starving.get(task.id, 0)
        room = self._aside.get(task.id)
        if room is None or room.kept_for != task.id:
            room = self._choose(task, demand, 0 if task.id in self._starving else self._starving_left)
        if room is not None:
            if room.kept_for != task.id:
                self._count(room, task)
                room.keep_for(task.id)
            self._hold(task, room)

    def _find_starving(self, snapshot: Snapshot) -> dict[str, float]:
        """Large tasks that have waited too long, each with the most GPUs that may stand idle for it."""
        after = snapshot.starvation_after
        if after is None:
            return {}
        large = [t for t in snapshot.tasks if t.need.at_least > 1 or t.instances > 1]
        found = {t.id: _most_idle(t) for t in large if self._at - t.enqueued_at >= after}
        self.wake_at = min((t.enqueued_at + after for t in large if t.id not in found), default=None)
        return found

    def is_starving(self, task: Task) -> bool:
        return task.id in self._starving

    def _set_aside(self, snapshot: Snapshot) -> None:
        """What was held for a starving task stays so before anything else is planned."""
        by_instance = {room.instance: room for rooms in self._rooms.values() for room in rooms}
        waiting = {task.id: task for task in snapshot.tasks if task.id in self._before}
        for hold in self._before.values():
            room = by_instance.get(hold.instance)
            if room is None or hold.task not in waiting or room.kept_for:
                continue
            if hold.is_first:
                room.keep_for(hold.task)
                self._count(room, waiting[hold.task])
                self._aside[hold.task] = room

    def _choose(self, task: Task, demand: Demand, spared: float) -> Room | None:
        """The machine held before, else the one with the most free GPUs; on a tie the one with the fewest tasks to wait for."""
        idle = spared + _most_idle(task)
        if not any(self._may_hold_one(name, idle, spared) for name in demand.queue.resources):
            return None
        before = self._before.get(task.id)
        if before and not before.is_first:
            for walk in demand.walks:
                for room in walk.rooms:
                    if (
                        room.instance == before.instance
                        and self._may_hold(room, idle, spared)
                        and demand.fits[room.shape]
                    ):
                        return room
        if id(demand) not in self._best:
            fitting = [r for walk in demand.walks for r in walk.rooms if r.tasks is None and demand.fits[r.shape]]
            fitting.sort(key=lambda r: (-r.free_gpus, self._busy.get(r.instance, 0), r.instance))
            self._best[id(demand)] = iter(fitting)
        return next((room for room in self._best[id(demand)] if self._may_hold(room, idle, spared)), None)

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
        self._open[resource] = self._idle_left(resource) - _most_idle(task)
        self._held[resource] = self._held.get(resource, 0) + 1

    def _hold(self, task: Task, room: Room) -> None:
        before = self._before.get(task.id)
        since = before.since if before and before.instance == room.instance else self._at
        self.made.append(Hold(task=task.id, instance=room.instance, since=since, is_first=self.is_starving(task)))


def _most_idle(task: Task) -> float:
    """How many GPUs stand idle at most while it waits beside them for the last that it needs. Gangs are counted elsewhere."""
    return task.need.at_least - 1 if task.instances == 1 else 0.0
