"""`idle_timeout: auto`: how long each idle machine is kept, and how long a launch waits for a busy one, by what was learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from fleet.model import Band, Habits, Instance, InstanceState

RUNNING = (InstanceState.READY, InstanceState.BUSY)


def band_of(bands: Sequence[Band], level: int) -> Band | None:
    """The one that holds for the n-th machine; the highest for more than were ever seen. None: nothing was learned."""
    found = None
    for band in bands:
        if band.level > level:
            break
        found = band
    return found


def idle_timeouts(instances: Iterable[Instance], habits: Habits, auto: Mapping[str, bool]) -> dict[str, timedelta]:
    """By instance, for those that are idle now and of a resource with `auto`.

    The machine that has been idle longest stands for the n-th of n: it is needed next when all others are.
    """
    kinds: dict[tuple[str, str], list[Instance]] = {}
    for instance in instances:
        if auto.get(instance.offer.resource) and instance.is_taking_tasks:
            kinds.setdefault((instance.offer.resource, instance.offer.type), []).append(instance)
    found = {}
    for kind, several in kinds.items():
        bands = habits.bands.get(kind)
        if not bands:
            continue
        idle = sorted(
            ((i.idle_since, i.id) for i in several if i.idle_since and i.state is InstanceState.READY), reverse=False
        )
        for place, (_, name) in enumerate(idle):
            band = band_of(bands, len(several) - place)
            if band:
                found[name] = timedelta(seconds=band.idle_s)
    return found


def patience_s(habits: Habits, kind: tuple[str, str], busy: int, runs_s: float) -> float:
    """How long to wait for one of `busy` machines to become free before launching another; 0 = not at all.

    `runs_s`: how long a task runs, on average.
    """
    bands = habits.bands.get(kind)
    band = band_of(bands, busy + 1) if bands else None
    if band is None or runs_s <= 0:
        return 0.0
    # With few machines none is likely to become free before a new one would have booted: then nobody waits in vain.
    return band.patience_s if busy * habits.boot_s / runs_s >= 1 else 0.0
