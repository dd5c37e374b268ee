"""PURE: whose turn it is on this machine, by the same order as the planner's (`fleet.planner.fairness`).

The dispatcher says what is held elsewhere and which machines are held for whom; what this machine holds it knows better
itself. Without a dispatcher the last word stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fleet.model import Hold, Queue, Task, Turns, Use
from fleet.planner.fairness import CPU_TASK_COUNTS, Order
from fleet.supervisor import allocation


class Turn:
    """What may be claimed here, one task at a time. Say `gave` when it was, before the next is asked for."""

    def __init__(
        self,
        tasks: Sequence[Task],
        queues: Sequence[Queue],
        turns: Turns | None,
        held: Iterable[tuple[Task, float]],
        served: Mapping[str, int] | None = None,
    ) -> None:
        """`held`: what runs here, with the number of its GPUs. `turns` None: the dispatcher has not said. `served`: as `Order`."""
        said = turns or Turns()
        own = list(held)
        here = {task.id for task, _ in own} | {task.gang for task, _ in own if task.gang}
        self._is_told = turns is not None and not turns.is_alone
        self._holds = {hold.task for hold in said.holds}
        gangs = [hold for hold in said.holds if hold.gang_gpus is not None and hold.task not in here]
        nodes = {hold.task: _node(hold, tasks) for hold in gangs}
        self._gang_holds = [hold for hold in gangs if nodes[hold.task] is None]
        self._nodes = [task for task in nodes.values() if task]
        first = {hold.task for hold in said.holds if hold.is_first and hold.gang_gpus is None}
        ours = {task.id for task in self._nodes}
        others = [t for t in tasks if t.id not in ours and not _is_of_a_gang(t, said.gangs)]
        self._first = sorted((t for t in others if t.id in first), key=lambda t: (t.enqueued_at, t.id))
        others = [t for t in others if t.id not in first] if first else others
        uses = [Use(queue=t.queue, user=t.user, gpus=gpus or CPU_TASK_COUNTS) for t, gpus in own]
        self._order = Order(others, queues, said.fairness, [*said.uses, *uses], served)

    def __iter__(self) -> Iterator[Task]:
        yield from self._nodes
        yield from self._first
        yield from self._order

    def gave(self, task: Task, gpus: float) -> None:
        """It was claimed for so many GPUs."""
        self._order.gave(task, gpus)

    def is_held_for(self, task: Task) -> bool:
        """Whether what is free here, but too little for it, is kept for this task."""
        return not self._is_told or task.id in self._holds or task in self._nodes

    def keep_back(self, free: allocation.Free) -> None:
        """What nodes of gangs will take that are not to be seen yet is not free."""
        for hold in self._gang_holds:
            free.keep(allocation.keep(free, int(hold.gang_gpus or 0)))


def is_out_of_sight(tasks: Sequence[Task], turns: Turns | None) -> bool:
    """Whether this machine is held for a task that is not among these: it may wait deeper in its queue."""
    seen = {task.id for task in tasks} | {task.gang for task in tasks}
    return turns is not None and any(hold.task not in seen for hold in turns.holds)


def _node(hold: Hold, tasks: Sequence[Task]) -> Task | None:
    """The node of the gang that comes here: its first task when all its machines are free, then one of those it starts."""
    if hold.may_start:
        return next((task for task in tasks if task.id == hold.task), None)
    return next((task for task in tasks if task.gang == hold.task), None)


def _is_of_a_gang(task: Task, gangs: Sequence[str]) -> bool:
    """A gang starts where its machines are held, and nowhere else. A node whose machine was lost goes anywhere."""
    return task.gang in gangs if task.gang else task.instances > 1
