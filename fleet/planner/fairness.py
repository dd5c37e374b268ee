"""Whose turn it is: one order of what waits, for the planner and for every supervisor (`fleet.supervisor.claims`).

Queues of higher priority go before all others. Among queues of one priority either the fleet file's order decides, or,
with `fairness: shares`, who holds the fewest GPUs for his weight; what is given counts at once, so shares fill up evenly.
Where shares are equal, as on a machine of one GPU each time that it is free, queues take turns on each machine.
Within a queue it is first come, first served, or, with `user_shares`, the user who holds the fewest GPUs. All by GPUs
held now: nobody earns a claim by having waited, and nobody pays for what he used yesterday.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush

from fleet.model import Fairness, Instance, Queue, Task, Turns, Use

# What a task without GPUs counts, in GPUs: little beside any that has one, and enough to make users of CPUs take turns.
CPU_TASK_COUNTS = 0.001


class Order:
    """What waits, one task at a time. Say `gave` when it got what it wants, before the next is asked for."""

    def __init__(
        self,
        tasks: Iterable[Task],
        queues: Sequence[Queue],
        fairness: Fairness,
        uses: Iterable[Use],
        served: Mapping[str, int] | None = None,
    ) -> None:
        """`queues`: as the fleet file has them. Tasks of other queues are left out. `served`: by queue, the number of the
        machine's last claim that was for it."""
        by_queue: dict[str, list[Task]] = {queue.name: [] for queue in queues}
        for task in tasks:
            if task.queue in by_queue:
                by_queue[task.queue].append(task)
        held: dict[str, dict[str, float]] = {}
        for use in uses:
            of_queue = held.setdefault(use.queue, defaultdict(float))
            of_queue[use.user] += use.gpus
        is_shared = fairness is Fairness.SHARES
        self.lines = [
            _Line(queue, rank, by_queue[queue.name], held.get(queue.name, {}), is_shared=is_shared)
            for rank, queue in enumerate(queues)
        ]
        for line in self.lines:
            line.served = (served or {}).get(line.queue.name, 0)
        self._by_name = {line.queue.name: line for line in self.lines}
        self.is_fair = is_fair(queues, fairness)

    def __iter__(self) -> Iterator[Task]:
        turns = [(*line.key(), line) for line in self.lines if line.tasks]
        if not self.is_fair:
            for *_, line in sorted(turns):
                yield from line.tasks
            return
        heapify(turns)
        while turns:
            *_, line = heappop(turns)
            task = line.next()
            while task is not None:
                yield task
                # In most fleets the same queue goes on until it is empty: then nobody need be compared.
                if turns and line.key() > turns[0][:-1]:
                    break
                task = line.next()
            if task is not None and line.has_more():
                heappush(turns, (*line.key(), line))

    def gave(self, task: Task, gpus: float) -> None:
        """A task got so many GPUs; before the next is asked for."""
        if self.is_fair:
            self._by_name[task.queue].gave(task, gpus)


class _Line:
    """One queue while its tasks are given out."""

    def __init__(
        self, queue: Queue, rank: int, tasks: list[Task], held: Mapping[str, float], *, is_shared: bool
    ) -> None:
        self.queue = queue
        self.rank = rank
        self.tasks = tasks
        self.held = sum(held.values())
        self.is_shared = is_shared
        self.served = 0
        self._urgency, self._weight = -queue.priority, queue.weight
        tasks.sort(key=lambda task: (task.position, task.id))
        self._users: list[tuple[float, int, str, list[Task]]] | None = None
        self._place = 0
        self._user: tuple[str, list[Task]] | None = None  # whose task came last
        self._held_by = dict(held)
        if queue.is_shared_by_users:
            by_user: dict[str, list[Task]] = {}
            for task in reversed(tasks):
                by_user.setdefault(task.user, []).append(task)  # the head of each is its last
            self._users = [(held.get(user, 0.0), mine[-1].position, user, mine) for user, mine in by_user.items()]
            heapify(self._users)

    def key(self) -> tuple[int, float, int, int]:
        """The smallest goes next."""
        if not self.is_shared:
            return self._urgency, 0.0, 0, self.rank
        return self._urgency, round(self.held / self._weight, 6), self.served, self.rank

    def has_more(self) -> bool:
        self._put_user_back()
        return bool(self._users) if self._users is not None else self._place < len(self.tasks)

    def next(self) -> Task | None:
        """Its next task; None: it has no more."""
        if not self.has_more():
            return None
        if self._users is None:
            self._place += 1
            return self.tasks[self._place - 1]
        _, _, user, mine = heappop(self._users)
        self._user = (user, mine)
        return mine.pop()

    def gave(self, task: Task, gpus: float) -> None:
        self.held += gpus or CPU_TASK_COUNTS
        if self._users is not None:
            self._held_by[task.user] = self._held_by.get(task.user, 0.0) + (gpus or CPU_TASK_COUNTS)

    def _put_user_back(self) -> None:
        if self._users is not None and self._user is not None:
            user, mine = self._user
            if mine:
                heappush(self._users, (round(self._held_by.get(user, 0.0), 6), mine[-1].position, user, mine))
            self._user = None


def share_words(order: Order) -> dict[str, str]:
    """For people, by queue: its share as it is now, and whose turn is next; empty where nobody shares."""
    lines = [line for line in order.lines if line.is_shared]
    if not lines:
        return {}
    in_use, weights = sum(line.held for line in lines), sum(line.queue.weight for line in lines)
    next_line = min((line for line in lines if line.tasks), key=lambda line: line.key(), default=None)
    words = {}
    for line in lines:
        name = line.queue.name
        turn = "it is next" if line is next_line else f"next: queue {next_line.queue.name}" if next_line else ""
        share = f"{line.held:g} of the {in_use:g} GPUs in use with a weight of {line.queue.weight:g} of {weights:g}"
        words[name] = f"; queue {name} holds {share}; {turn}"
    return words


def uses_of(instances: Iterable[Instance]) -> tuple[Use, ...]:
    """What the tasks of every queue and user hold on these instances."""
    held: dict[tuple[str, str], float] = defaultdict(float)
    for instance in instances:
        for allocation in instance.allocations:
            held[allocation.queue, allocation.user] += allocation.share or len(allocation.gpus) or CPU_TASK_COUNTS
    return tuple(Use(queue=queue, user=user, gpus=round(gpus, 4)) for (queue, user), gpus in sorted(held.items()))


def is_fair(queues: Iterable[Queue], fairness: Fairness) -> bool:
    """Whether anybody's turn depends on what is held."""
    return fairness is Fairness.SHARES or any(queue.is_shared_by_users for queue in queues)


def turns_for(turns: Turns, instance: Instance) -> Turns:
    """What one supervisor is told: what is held elsewhere, for it knows better what it holds itself, and its own holds.

    `instance` as it was when the pass saw it. What it has claimed or ended since then is off by one pass, no more.
    """
    if not turns.holds and not turns.uses:
        return turns
    holds = tuple(hold for hold in turns.holds if hold.instance == instance.id)
    if not turns.uses:
        return replace(turns, holds=holds)
    own = {(use.queue, use.user): use.gpus for use in uses_of([instance])}
    left = ((use, use.gpus - own.get((use.queue, use.user), 0.0)) for use in turns.uses)
    uses = tuple(replace(use, gpus=round(gpus, 4)) for use, gpus in left if gpus > 1e-9)
    return replace(turns, uses=uses, holds=holds)
