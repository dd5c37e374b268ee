"""Gangs: a task that asks for N instances gets them all, in one zone if it asks for that, or none (docs/adr/0013-gangs.md).

waits  ->  held: all N machines are there or launched together, and each keeps what one node takes
       ->  may start: all N have room, and each has heard that it is held; its first machine takes the task itself
       ->  runs: the task starts its other nodes, and the machines that are held for it take them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime, timedelta

from fleet.model import Hold, InstanceState, Offer, Reason, Snapshot, Task
from fleet.planner.capacity import Room
from fleet.planner.demand import Choice, Demand
from fleet.planner.limits import Ledger

# A machine has heard of its hold when it was in touch so long after it was decided: one pass and one lost answer later.
HEARD_AFTER = timedelta(seconds=5)
# Between the claim of the first task and the first word of the machine that runs it.
CLAIM_GRACE = timedelta(seconds=60)
# So long machines wait for the nodes that the first task starts: an agent has to build its environment before.
NODES_WITHIN = timedelta(minutes=15)
RUNNING = (InstanceState.READY, InstanceState.BUSY)
# Provider, region and zone. Names of zones are of one provider alone, and some clouds have regions without zones.
Place = tuple[str, str | None, str | None]


class Gangs:
    """The gangs of one plan."""

    def __init__(self, snapshot: Snapshot, rooms: Mapping[str, Sequence[Room]]) -> None:
        self.holds: list[Hold] = []
        self.wake_at: datetime | None = None
        self._at = snapshot.at
        self._before = {(h.task, h.instance): h for h in snapshot.holds if h.gang_gpus is not None}
        self._instances = {i.id: i for i in snapshot.instances} if self._before else {}
        self._aside: dict[str, list[tuple[Room, float]]] = {}  # of gangs that wait
        self._nodes: dict[str, list[Room]] = {}  # of gangs that run: where their nodes may go
        self._has_reserved = False
        if self._before:
            self._take_up(snapshot, {room.instance: room for several in rooms.values() for room in several})

    @property
    def running(self) -> tuple[str, ...]:
        """Gangs whose nodes go to held machines only."""
        return tuple(sorted({hold.task for hold in self.holds}))

    def node_room(self, task: Task) -> Room | None:
        """The machine that is held for this node of a running gang."""
        rooms = self._nodes.get(task.gang or "")
        return rooms.pop(0) if rooms else None

    def place(
        self, task: Task, demand: Demand, ledger: Ledger, add: Callable[[Choice, Reason], Room], *, is_starving: bool
    ) -> tuple[Room | None, Reason]:
        """All machines of a gang that waits, launched if need be and all limits allow it; else None, and why."""
        for room, gpus in self._aside.pop(task.id, ()):
            room.free_gpus += gpus
        places = _places(task, demand)
        free = {place: self._free(task, demand, place) for place in places}
        why: Reason | None = None
        for place in sorted(places, key=lambda place: -len(free[place])):
            lacking = task.instances - len(free[place])
            choice = _affordable(demand, place, lacking, ledger) if lacking else None
            if isinstance(choice, Reason):
                why = why or choice
                continue
            new = [add(choice, demand.reason) for _ in range(lacking)] if choice else []
            return self._hold_all(task, demand, [*free[place], *new])
        if is_starving:
            self._reserve(task, demand, places)
        most = max(map(len, free.values()), default=0)
        return None, _waits(task, most, why)

    def _take_up(self, snapshot: Snapshot, rooms: Mapping[str, Room]) -> None:
        """What the last plan held stays out of everybody's reach."""
        waiting = {task.id for task in snapshot.tasks}
        starts = {a.task: a.started_at for i in snapshot.instances for a in i.allocations}
        claimed = {task for (task, _), hold in self._before.items() if hold.may_start and self._is_fresh(hold)}
        for (task, instance), hold in self._before.items():
            room = rooms.get(instance)
            if room is None or hold.gang_gpus is None:
                continue
            if task not in waiting:
                until = starts[task] + NODES_WITHIN if task in starts else None
                if self._has_arrived(task, instance) or not (task in claimed or (until and self._at < until)):
                    continue
                if hold.may_start and task in starts:
                    continue
                self.holds.append(hold)
                self._wake(until)
            gpus = min(room.free_gpus, hold.gang_gpus)
            room.free_gpus -= gpus
            if task in waiting:
                self._aside.setdefault(task, []).append((room, gpus))
            elif not hold.may_start:
                self._nodes.setdefault(task, []).append(room)

    def _is_fresh(self, hold: Hold) -> bool:
        return self._at - hold.since < CLAIM_GRACE

    def _has_arrived(self, task: str, instance: str) -> bool:
        return any(task in (a.task, a.gang) for a in self._instances[instance].allocations)

    def _free(self, task: Task, demand: Demand, place: Place | None) -> list[Room]:
        """Machines with room for a node now, those that are held for it first, no more than it needs."""
        found = [
            room
            for room in _fitting(demand, place)
            if room.free_gpus >= task.need.at_least
            and (task.need.at_least or not (room.shared_cpu_tasks or room.own_cpu_tasks))
        ]
        found.sort(key=lambda room: (not self._is_lead(task, room), (task.id, room.instance) not in self._before))
        return found[: task.instances]

    def _is_lead(self, task: Task, room: Room) -> bool:
        before = self._before.get((task.id, room.instance))
        return before is not None and before.may_start

    def _hold_all(self, task: Task, demand: Demand, rooms: Sequence[Room]) -> tuple[Room, Reason]:
        for room in rooms:
            room.seat(task.need.at_least, demand.queue)
            if room.tasks is not None:
                room.tasks.append(task.id)
        is_ready = all(self._is_ready(task, room) for room in rooms)
        self._hold(task, rooms, lead=rooms[0].instance if is_ready else None)
        there = sum(room.state in RUNNING for room in rooms)
        if is_ready:
            text = f"its {task.instances} instances are free and held for it; {rooms[0].instance} starts it"
        elif there == len(rooms):
            text = f"its {task.instances} instances are free and are being told to wait for it"
        else:
            text = (
                f"it needs {task.instances} instances at once: {there} of {task.instances} are there, the others come"
            )
        return rooms[0], Reason(code="gang", text=text, queue=task.queue, task=task.id)

    def _is_ready(self, task: Task, room: Room) -> bool:
        """It is there, and its supervisor knows that it is held."""
        before = self._before.get((task.id, room.instance))
        if before is None or room.state not in RUNNING:
            return False
        heard_at = self._instances[room.instance].heartbeat_at
        return before.may_start or (heard_at is not None and heard_at >= before.since + HEARD_AFTER)

    def _hold(self, task: Task, rooms: Iterable[Room], lead: str | None) -> None:
        for room in rooms:
            before = self._before.get((task.id, room.instance))
            is_lead = room.instance == lead
            self.holds.append(
                Hold(
                    task=task.id,
                    instance=room.instance,
                    since=before.since if before and not is_lead else self._at,
                    is_first=True,
                    gang_gpus=task.need.at_least,
                    may_start=is_lead,
                )
            )
        if lead is None:
            self._wake(self._at + HEARD_AFTER)

    def _reserve(self, task: Task, demand: Demand, places: Sequence[Place | None]) -> None:
        """Machines empty for a gang that has waited too long: for one gang at a time, and only where there are enough."""
        if self._has_reserved:
            return
        for place in places:
            fitting = _fitting(demand, place)
            if len(fitting) >= task.instances:
                fitting.sort(key=lambda r: ((task.id, r.instance) not in self._before, -r.free_gpus, r.instance))
                self._has_reserved = True
                self._hold(task, fitting[: task.instances], lead=None)
                for room in fitting[: task.instances]:
                    room.free_gpus = max(room.free_gpus - task.need.at_least, 0)
                return

    def _wake(self, at: datetime | None) -> None:
        if at and (self.wake_at is None or at < self.wake_at):
            self.wake_at = at


def _fitting(demand: Demand, place: Place | None) -> list[Room]:
    """Machines that can hold a node of it, full as they may be now, and that are held for nobody."""
    return [
        room
        for walk in demand.walks
        for room in walk.rooms
        if demand.fits[room.shape] and room.kept_for is None and place in (None, _place_of(room.offer))
    ]


def _places(task: Task, demand: Demand) -> list[Place | None]:
    """Where it may go: all of it in one of these; None, if it does not care: anywhere."""
    if not task.is_one_zone:
        return [None]
    offers = [room.offer for walk in demand.walks for room in walk.rooms] + [c.offer for c in demand.choices]
    return list(dict.fromkeys(map(_place_of, offers)))


def _place_of(offer: Offer) -> Place:
    return offer.provider, offer.region, offer.zone


def _affordable(demand: Demand, place: Place | None, count: int, ledger: Ledger) -> Choice | Reason | None:
    """An offer of which so many may be launched together, or what refuses the one that it would like best."""
    why: Reason | None = None
    for choice in demand.choices:
        if place not in (None, _place_of(choice.offer)):
            continue
        trial = _copy(ledger)
        refusal, user = choice.backoff, demand.reason.user
        for _ in range(count):
            refusal = refusal or trial.refusal(choice.offer, choice.resource, demand.queue, user)
            trial.add(choice.offer, demand.queue.name, user)
        if refusal is None:
            return choice
        why = why or refusal
    return why or Reason(code="no_fit", text="none of its resources has an offer that fits", queue=demand.queue.name)


def _copy(ledger: Ledger) -> Ledger:
    """To try on it what may then not be done."""
    return deepcopy(ledger, {id(ledger.snapshot): ledger.snapshot})


def _waits(task: Task, free: int, why: Reason | None) -> Reason:
    where = " in one zone" if task.is_one_zone else ""
    text = f"it needs {task.instances} instances at once{where}: {free} of {task.instances} have room now"
    if why:
        text += f", and the others may not be launched: {why.text}"
    return Reason(code="gang", text=text, queue=task.queue, task=task.id, limit=why.limit if why else None)
