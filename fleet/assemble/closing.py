"""What becomes of the machines when `fleet dispatch` is told to end: `on_shutdown` of the fleet file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from fleet.config import OnShutdown
from fleet.model import Instance, InstanceState, Reason

if TYPE_CHECKING:
    from fleet.assemble.centre import Centre

# A supervisor hears of an order at its next heartbeat, 5 s later at most; clouds take their time to end a machine.
PATIENCE = timedelta(seconds=30)
REASON = Reason(code="shutdown", text="the dispatcher was told to end, and on_shutdown says so")
LOOK_EVERY_S = 0.2
NEW = (InstanceState.REQUESTED, InstanceState.BOOTING)
IDLE = (*NEW, InstanceState.READY)


def close(centre: Centre, hurry: threading.Event) -> tuple[Instance, ...]:
    """Order what the fleet file says, and wait until it was heard. Who is left although he should not be."""
    if centre.config.on_shutdown is OnShutdown.ALL:
        return centre.end_machines(REASON, PATIENCE, hurry)
    if centre.config.on_shutdown is OnShutdown.IDLE:
        return _end_idle(centre, hurry)
    return ()


def _end_idle(centre: Centre, hurry: threading.Event) -> tuple[Instance, ...]:
    """Machines without a task pull no more and end by themselves; one that takes a task meanwhile lets it end first."""
    if centre.loop:
        centre.loop.dispatcher.is_closing = True  # launch nothing more
    idle = {i.id for i in centre.store.instances(centre.config.cluster) if i.state in IDLE}

    def left() -> tuple[Instance, ...]:
        there = centre.store.instances(centre.config.cluster)
        idle.update(i.id for i in there if i.state in NEW)  # also what a pass that still runs has launched
        return tuple(i for i in there if i.id in idle and not _has_heard(i))

    def order() -> None:
        for instance in left():
            if instance.enrolled_at:
                centre.store.request_drain(instance.id, REASON, centre.now())
            else:  # nobody there can hear of a drain
                centre.store.request_terminate(instance.id, REASON, centre.now())

    return _until(lambda: centre.may_launch, left, order, hurry)


def _has_heard(instance: Instance) -> bool:
    return bool(instance.stopped_pulling_at or instance.goodbye_at or instance.gone_at)


def _until(
    may_launch: Callable[[], bool],
    left: Callable[[], tuple[Instance, ...]],
    order: Callable[[], None],
    hurry: threading.Event,
) -> tuple[Instance, ...]:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while (may_launch() | bool(left())) and time.monotonic() < deadline:
        order()
        if hurry.wait(LOOK_EVERY_S):
            break
    return left()
