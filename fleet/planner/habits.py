"""What `idle_timeout: auto` learns: from when tasks came and went, how long to keep an idle machine, and how long to wait
for a busy one before launching another.

Count the machines of one kind that were needed at each moment. The n-th of them was needed for spells, with gaps between.
A machine that is kept through a gap saves a boot, and somebody's wait; kept for too long it costs more than that. A launch
that is put off for a moment may not be needed at all. So for each n all that was seen is lived through again with each
choice, and the one that would have cost least, money and waiting together, is taken. Neighbouring n share what they saw.
Pure; the dispatcher feeds it (`fleet.dispatcher.learning`). Why so: docs/adr/0020-idle-auto.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from fleet.model import Band, Habits
from fleet.planner.stretch import stretch_of

# A wait of 10 s for each task is as bad as 3 % on the bill. So a wait is worth more where tasks are dear or long: but who
# waits three minutes for a day of work hardly feels it, so that beyond three hours it is worth no more for being longer.
WAIT_SHARE_PER_S = 0.03 / 10
LONGEST_FELT_S = 3 * 3600.0
IDLE_CHOICES_S = (30.0, 60.0, 120.0, 210.0, 300.0, 450.0, 600.0, 900.0, 1500.0, 2400.0, 3600.0, 7200.0, 14400.0)
PATIENCE_CHOICES_S = (0.0, 20.0, 45.0, 90.0, 180.0)
FEWEST_GAPS = 24  # that a band learns from
BOOT_S = 180.0  # until boots were seen


class Stay(NamedTuple):
    """A task in the fleet, from its coming to its end, on a machine of some kind."""

    kind: tuple[str, str]  # resource, type
    queue: str
    came_s: float
    began_s: float
    ended_s: float
    machines: float  # it took: GPUs of it / GPUs of the machine
    usd_per_hour: float  # of the whole machine


class Spell(NamedTuple):
    """The n-th machine was needed for so long, and then not for so long."""

    needed_s: float
    gap_s: float  # inf: it was not needed again


def learn(stays: Sequence[Stay], boots_s: Sequence[float], wait_usd_per_hour: float | None = None) -> Habits:
    """What these stays teach. `boots_s`: how long machines took to boot; `wait_usd_per_hour`: as the fleet file says, if it does.

    Stays that took no time, or less, because a clock went wrong, teach nothing.
    """
    stays = [stay for stay in stays if stay.came_s <= stay.began_s <= stay.ended_s and stay.came_s < stay.ended_s]
    if not stays:
        return Habits()
    boot_s = sorted(boots_s)[len(boots_s) // 2] if boots_s else BOOT_S
    usd = sum(s.machines * s.usd_per_hour * (s.ended_s - s.began_s) / 3600 for s in stays)
    if wait_usd_per_hour is None:
        mean_s = sum(stay.ended_s - stay.began_s for stay in stays) / len(stays)
        wait_usd_per_hour = 3600 * WAIT_SHARE_PER_S * usd / len(stays) * min(LONGEST_FELT_S / max(mean_s, 1.0), 1.0)
    by_kind: dict[tuple[str, str], list[Stay]] = {}
    durations: dict[str, list[float]] = {"": []}
    for stay in stays:
        by_kind.setdefault(stay.kind, []).append(stay)
        durations.setdefault(stay.queue, []).append(stay.ended_s - stay.began_s)
        durations[""].append(stay.ended_s - stay.began_s)
    bands = {}
    for kind, several in by_kind.items():
        price = max(stay.usd_per_hour for stay in several)
        # Where no price is known nobody can weigh it against waiting: the fixed time holds.
        if price > 0 and (found := _bands(_spells(several), boot_s, wait_usd_per_hour / price)):
            bands[kind] = found
    return Habits(
        bands=bands,
        stretch={queue: known for queue, each in durations.items() if (known := stretch_of(each))},
        mean_s={queue: sum(each) / len(each) for queue, each in durations.items() if each},
        boot_s=boot_s,
        wait_usd_per_hour=wait_usd_per_hour,
    )


def _spells(stays: Sequence[Stay]) -> Mapping[int, list[Spell]]:
    """By n, when the n-th machine was needed and when not, in order."""
    changes = sorted([(s.came_s, s.machines) for s in stays] + [(s.ended_s, -s.machines) for s in stays])
    used, level = 0.0, 0
    since: dict[int, float] = {}  # n -> when it was needed last anew
    spells: dict[int, list[tuple[float, float]]] = {}
    for at, change in changes:
        used += change
        now = max(math.ceil(used - 1e-6), 0)
        while level < now:
            level += 1
            since[level] = at
        while level > now:
            spells.setdefault(level, []).append((since.pop(level), at))
            level -= 1
    found: dict[int, list[Spell]] = {}
    for n, several in spells.items():
        nexts = [begin for begin, _ in several[1:]] + [math.inf]
        found[n] = [Spell(end - begin, following - end) for (begin, end), following in zip(several, nexts, strict=True)]
    return found


def _bands(spells: Mapping[int, Sequence[Spell]], boot_s: float, wait: float) -> tuple[Band, ...]:
    """Neighbouring n together, as many as have seen enough. `wait`: the worth of waiting, in machine time."""
    bands: list[Band] = []
    group: list[Sequence[Spell]] = []
    first = 1
    for n in sorted(spells):
        group.append(spells[n])
        if sum(len(each) - 1 for each in group) >= FEWEST_GAPS:
            bands.append(_band(first, group, boot_s, wait))
            group, first = [], n + 1
    if (group and not bands and sum(map(len, group)) >= FEWEST_GAPS) or (group and bands):
        bands.append(_band(first, group, boot_s, wait))
    return tuple(bands)


def _band(first: int, group: Sequence[Sequence[Spell]], boot_s: float, wait: float) -> Band:
    """The choice that would have cost least."""
    idle_s, _ = _cheapest(((idle, 0.0) for idle in IDLE_CHOICES_S), group, boot_s, wait)
    near = _near(IDLE_CHOICES_S, idle_s)
    idle_s, patience_s = _cheapest(product(near, PATIENCE_CHOICES_S), group, boot_s, wait)
    return Band(level=first, idle_s=idle_s, patience_s=patience_s)


def _cheapest(
    choices: Iterable[tuple[float, float]], group: Sequence[Sequence[Spell]], boot_s: float, wait: float
) -> tuple[float, float]:
    """Idle time and patience; of two that cost the same, the shorter."""
    least, best = math.inf, (math.inf, math.inf)
    for choice in choices:
        cost = _cost(group, *choice, boot_s, wait, least)
        if (cost, choice) < (least, best):
            least, best = cost, choice
    return best


def _near(choices: Sequence[float], chosen: float) -> Sequence[float]:
    place = choices.index(chosen)
    return choices[max(place - 2, 0) : place + 2]


def _cost(
    group: Iterable[Sequence[Spell]],
    idle_s: float,
    patience_s: float,
    boot_s: float,
    wait: float,
    most: float = math.inf,
) -> float:
    """Machine time beyond the work, and waiting in its worth, had these thresholds held; inf as soon as it is above `most`."""
    extra = waited = 0.0
    late_s = patience_s + boot_s
    for spells in group:
        if extra + wait * waited > most:
            return math.inf
        is_there = False
        for needed_s, gap_s in spells:
            if not is_there:
                waited += needed_s if needed_s <= late_s else late_s
                if needed_s <= patience_s:
                    continue  # over before anybody launched
                extra += boot_s
                if late_s > needed_s:  # it comes when nobody needs it any more
                    gap_s -= late_s - needed_s
                    if gap_s < 0.0:
                        gap_s = 0.0
            is_there = gap_s <= idle_s
            extra += gap_s if is_there else idle_s
    return extra + wait * waited
