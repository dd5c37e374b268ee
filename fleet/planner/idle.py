"""`idle_timeout: auto`: how long each idle machine is kept, and how long a launch waits for a busy one, by what was learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from fleet.model import Band, Habits, Instance, InstanceState
from fleet.planner.steady import unsteady

RUNNING = (InstanceState.READY, InstanceState.BUSY)


def band_of(bands: Sequence[Band], level: int) -> Band | None:
    """The one that holds for the n-th machine; the highest for more than were ever seen. None: nothing was learned."""
    found = None
    for band in bands:
        if band.level > level:
            break
        found = band
    return found


def idle_timeouts(instances: tuple[Instance, ...], habits: Habits, auto: Mapping[str, bool]) -> dict[str, timedelta]:
    """By instance, for those that are idle now and of a resource with `auto`.

    The machine that has been idle longest stands for the n-th of n: it is needed next when all others are.
    """
    idle: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
    others = unsteady(instances)
    for each in [i for i in others if not i.allocations and i.idle_since and i.enrolled_at]:
        offer, since = each.offer, each.idle_since
        if since and each.is_taking_tasks and auto.get(offer.resource):
            idle.setdefault((offer.resource, offer.type), []).append((since, each.id))
    if not idle:
        return {}
    counts = _taking(instances, others)
    found = {}
    for kind, several in idle.items():
        bands = habits.bands.get(kind) or ()
        for place, (_, name) in enumerate(sorted(several)):
            band = band_of(bands, counts[kind] - place)
            if band:
                found[name] = timedelta(seconds=band.idle_s)
    return found


def _taking(instances: Sequence[Instance], others: Sequence[Instance]) -> Counter[tuple[str, str]]:
    """How many take tasks, by resource and type. `others`: of them, those of which it is not sure."""
    offers = [i.offer for i in instances]
    each = dict(zip(map(id, offers), offers, strict=True))  # many machines are of one
    counts: Counter[tuple[str, str]] = Counter()
    for key, count in Counter(map(id, offers)).items():
        counts[each[key].resource, each[key].type] += count
    counts.subtract([(i.offer.resource, i.offer.type) for i in others if not i.is_taking_tasks])
    return counts


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
