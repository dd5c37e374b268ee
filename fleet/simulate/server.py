"""The ClearML server of the simulation: the one in memory, looked at only when something changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache

from fleet.model import Gpu, Offer, Queue, Task, in_parts
from fleet.queues.memory import MemoryServer
from fleet.supervisor.allocation import why_never


class SimulatedServer(MemoryServer):
    """Counts the changes of its queues, so that hundreds of machines need not read them again while nothing changed."""

    def __init__(self, now: Callable[[], datetime], on_change: Callable[[], None]) -> None:
        super().__init__(now)
        self.version = 0
        self.unseen: dict[str, None] = {}  # tasks that came, and that nobody has taken yet; its reader empties it
        self._on_change = on_change
        # Their order, in place of their positions: those change for all that wait whenever one of them goes.
        self._ranks: dict[str, int] = {}
        # By who reads (the id of his queues, which are kept so that it stays theirs): what he read at which version.
        self._read: dict[int, tuple[Sequence[Queue], int, tuple[Task, ...]]] = {}

    @property
    def at(self) -> datetime:
        """Now."""
        return self._now()

    def waiting(self, queues: Sequence[Queue], first: int | None = None) -> tuple[Task, ...]:
        """All of them, always: supervisors look as deep as they need to."""
        read = self._read.get(id(queues))
        if read is None or read[1] != self.version:
            read = self._read[id(queues)] = queues, self.version, super().waiting(queues)
        return read[2]

    def enqueue(self, task: str, queue: str) -> None:
        super().enqueue(task, queue)
        self._ranks[task] = len(self._ranks) + self.version
        self.unseen[task] = None
        self._changed()

    def ask_to_stop(self, task: str) -> None:
        super().ask_to_stop(task)
        self.unseen.pop(task, None)
        self._changed()

    def put_back(self, task: str, queue: str, why: str) -> None:
        super().put_back(task, queue, why)
        if next(iter(self._queues[queue]), None) == task:
            self._ranks[task] = -self.version
        self.unseen[task] = None
        self._changed()

    def claim(self, task: Task) -> bool:
        is_ours = super().claim(task)
        self.unseen.pop(task.id, None)
        if is_ours:
            self._leave_out(task.id)
        self._changed()
        return is_ours

    def _waiting(self, task: str, queue: Queue, position: int) -> Task:
        return super()._waiting(task, queue, self._ranks[task])

    def _leave_out(self, task: str) -> None:
        """Whoever has read what waits has then read the same without it: to read a long backlog again for each task that goes
        would take as long as all of it times all of it."""
        for reader, (queues, version, read) in self._read.items():
            place = next((n for n, each in enumerate(read) if each.id == task), None)
            if version == self.version:
                left = read if place is None else read[:place] + read[place + 1 :]
                self._read[reader] = queues, version + 1, left

    def _changed(self) -> None:
        self.version += 1
        self._on_change()


class Lookouts:
    """Where machines of each kind look: those of a resource into the queues that it serves."""

    def __init__(self, server: SimulatedServer, queues: Sequence[Queue]) -> None:
        self._server, self._queues = server, queues
        self._peeks: dict[tuple[str, str], Peeks] = {}  # by resource and type
        self._version = -1
        self._smallest: int | None = None
        self._seen_at: dict[str, datetime] = {}  # when each of the tasks was first seen
        self.serve = cache(self._serve)

    def _serve(self, resource: str) -> tuple[Queue, ...]:
        """The queues that this resource serves, the most urgent first."""
        return tuple(sorted((q for q in self._queues if resource in q.resources), key=lambda q: -q.priority))

    def of(self, offer: Offer, gpus: Sequence[Gpu]) -> Peeks:
        """What machines of this offer see; `gpus`: those of one of them."""
        kind = (offer.resource, offer.type)
        if kind not in self._peeks:
            self._peeks[kind] = Peeks(self._server, self.serve(offer.resource), gpus, self.seen_at)
        return self._peeks[kind]

    def smallest(self) -> int | None:
        """What the smallest task that waits needs, in parts of a GPU: who has less free need not look. None: nothing waits."""
        self._look()
        return self._smallest

    def seen_at(self) -> Mapping[str, datetime]:
        """When each of the tasks that wait was first seen."""
        self._look()
        return self._seen_at

    def _look(self) -> None:
        """Once for machines of all kinds."""
        if self._version != self._server.version:
            self._version = self._server.version
            waiting, at, before = self._server.waiting(self._queues), self._server.at, self._seen_at
            self._seen_at = {task.id: before.get(task.id, at) for task in waiting}
            self._smallest = _smallest(waiting)


class Peeks:
    """What the supervisors of one kind of machine see when they look into their queues."""

    def __init__(
        self,
        server: SimulatedServer,
        queues: Sequence[Queue],
        gpus: Sequence[Gpu],
        seen_at: Callable[[], Mapping[str, datetime]],
    ) -> None:
        """`gpus`: those of any such machine. `seen_at`: when tasks were first seen."""
        self.seen_at = seen_at
        self._server = server
        self._all = queues
        self._queues = {queue.name: queue for queue in queues}
        self._gpus = gpus
        self._version = -1
        self._tasks: tuple[Task, ...] = ()
        self._smallest: int | None = None
        self._fits: dict[str, bool] = {}

    def tasks(self) -> tuple[Task, ...]:
        """All that wait there, but for those that such a machine can never run: it would pass them over each time."""
        self._look()
        return self._tasks

    def smallest(self) -> int | None:
        """What the smallest of them needs, in parts of a GPU: who has less free need not decide. None: nothing waits."""
        self._look()
        return self._smallest

    def _look(self) -> None:
        if self._version != self._server.version:
            self._version = self._server.version
            waiting = self._server.waiting(self._all)
            self._tasks = tuple([task for task in waiting if self._can_run(task)])
            self._smallest = _smallest(self._tasks)

    def _can_run(self, task: Task) -> bool:
        fits = self._fits.get(task.id)
        if fits is None:
            fits = self._fits[task.id] = why_never(task, self._gpus, self._queues[task.queue]) is None
        return fits


def _smallest(tasks: Sequence[Task]) -> int | None:
    """What the smallest of them needs, in parts of a GPU; None: there is none."""
    return in_parts(min([task.need.at_least for task in tasks])) if tasks else None
