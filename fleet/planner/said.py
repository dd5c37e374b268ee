"""What a plan says of each task that waits: where it will go, or why nowhere.

Most that wait are told the same as by the plan before, and then it is the same object: a shortcut, not a memory (as in
`fleet.planner.ground`), and a plan is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet.model import InstanceState, Reason, Task, Waiting
from fleet.planner.capacity import Room

FREE = ("free", "has room for it")
COMING = {
    InstanceState.REQUESTED: ("launching", "is being launched for it"),
    InstanceState.BOOTING: ("booting", "is booting and will have room for it"),
}

_latest: dict[str, Waiting] = {}  # by task, of the last plan


def goes_to(room: Room, task: Task) -> Waiting:
    """Where a task will run."""
    code, text = COMING.get(room.state, FREE)
    said = _latest.get(task.id)
    if said and said.instance == room.instance and said.reason.code == code and said.queue == task.queue:
        return said
    reason = Reason(code=code, text=f"instance {room.instance} {text}", queue=task.queue, task=task.id)
    return Waiting(task=task.id, queue=task.queue, reason=reason, instance=room.instance)


def waits(why: Reason, task: Task, share: str = "") -> Waiting:
    """Why a task gets no machine now; `share`: of its queue, where queues share."""
    text = why.text + share
    said = _latest.get(task.id)
    if said and said.instance is None and said.queue == task.queue:
        before = said.reason
        if before.text == text and before.code == why.code and before.limit == why.limit:
            return said
    reason = Reason(code=why.code, text=text, queue=task.queue, task=task.id, limit=why.limit)
    return Waiting(task=task.id, queue=task.queue, reason=reason)


def remember(waiting: Iterable[Waiting]) -> None:
    """The plan that is made now says this, and the next may say it again."""
    global _latest
    _latest = {each.task: each for each in waiting}
