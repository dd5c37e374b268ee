"""What a machine without a dispatcher says in its log of what it serves, and of work that it cannot do: nobody else would say it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from fleet.model import Gpu, Queue, Task
from fleet.supervisor.allocation import why_never
from fleet.wire import Enrolled

log = logging.getLogger(__name__)

NONE = "none"


class Unserved:
    """Tasks that wait here, and never could run here."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}  # by task, why; of those that wait now

    def look(self, waiting: Sequence[Task], gpus: Sequence[Gpu], queues: Sequence[Queue]) -> None:
        """Each is said once, as long as it waits for the same reason."""
        known = {queue.name: queue for queue in queues}
        found = {
            task.id: why
            for task in waiting
            if task.queue in known and (why := why_never(task, gpus, known[task.queue])) is not None
        }
        for task, why in found.items():
            if self._told.get(task) != why:
                log.warning("task cannot run here", extra={"task": task, "why": why})
        self._told = found


def say_what_is_served(enrolled: Enrolled, gpus: Sequence[Gpu]) -> None:
    """The first lines of the log: for whom this machine works, with what, and which queues are beyond it."""
    models = ", ".join(sorted({gpu.model for gpu in gpus}))
    facts = {
        "machine": enrolled.instance,
        "server": enrolled.server.api_url,
        "gpus": f"{len(gpus)} ({models})" if gpus else f"{NONE}: no driver (NVML) tells of one",
        "queues": ", ".join(f"{queue.name} (GPUs of a task: {queue.need})" for queue in enrolled.queues) or NONE,
    }
    log.info("at work", extra=facts)
    for queue, why in beyond(enrolled.queues, gpus):
        log.warning("queue cannot be served", extra={"queue": queue, "why": f"a task of it {why}"})


def beyond(queues: Sequence[Queue], gpus: Sequence[Gpu]) -> Iterator[tuple[str, str]]:
    """Queues whose usual task can never run with these GPUs, and why. Tasks with wishes of their own still may."""
    for queue in queues:
        usual = Task(
            id="",
            queue=queue.name,
            position=0,
            enqueued_at=datetime.min.replace(tzinfo=UTC),
            need=queue.need,
            gpu_type=queue.gpu_type,
            gpu_memory_gib=queue.gpu_memory_gib,
        )
        if why := why_never(usual, gpus, queue):
            yield queue.name, why
