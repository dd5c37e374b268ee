"""The cheapest mix of machines for a batch of tasks: which offers, and who shares one.

A pattern is one machine and the tasks that fill it. Step by step the pattern is taken that costs least for what it holds,
against what its tasks would cost at the least anywhere, and as often as there are tasks for it. Tasks come in classes, so
that ten thousand alike cost as little as one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)

TAIL = 8  # machines of the end of a mix that are looked at again
WORTH_MENDING = 0.005  # of the price of all: less is not looked for
EPSILON = 1e-9


class Box(NamedTuple):
    """A machine that could be launched. `place` is its own: the caller's number for it."""

    place: int
    gpus: float
    usd: float  # an hour


@dataclass(frozen=True, slots=True)
class Group(Generic[Key]):
    """Tasks that are alike."""

    key: Key
    gpus: float  # of each; 0 = a task without GPUs takes a share of a machine as small as it can be
    count: int
    boxes: Sequence[int]  # places of the boxes that can hold one


@dataclass(frozen=True, slots=True)
class Pattern(Generic[Key]):
    """So many machines of one kind, each with so many tasks of each group."""

    box: int
    tasks: Mapping[Key, int]
    times: int = 1


def cheapest_mix(
    groups: Sequence[Group[Key]], boxes: Sequence[Box], stretch: Callable[[int], float]
) -> list[Pattern[Key]]:
    """Machines for all of these tasks. `stretch(n)` is how much longer n tasks pin a machine than one does."""
    if len(groups) == 1 and groups[0].count == 1:  # as most of the time: who comes alone gets what is cheapest
        place = min(groups[0].boxes, key=lambda b: (boxes[b].usd, boxes[b].gpus, b), default=None)
        return [] if place is None else [Pattern(place, {groups[0].key: 1})]
    holds = _eligible(groups, boxes)
    least = {g.key: min((boxes[b].usd * _share(g, boxes[b]) for b in g.boxes), default=0.0) for g in groups}
    alone = {g.key: min((boxes[b].usd for b in g.boxes), default=0.0) for g in groups}
    alike = {g.key: min((boxes[b].usd / _most(g, boxes[b]) for b in g.boxes), default=0.0) for g in groups}
    begun: list[list[Pattern[Key]]] = []
    for worth in (least, alike, alone):
        found = _greedy({g.key: g.count for g in groups}, holds, boxes, worth, stretch)
        if found not in begun:
            begun.append(found)
    mixes = [_mended(found, groups, holds, boxes, stretch, least) for found in begun]
    return min(mixes, key=lambda mix: sum(_usd(p, boxes, stretch) for p in mix))


Holds = Mapping[int, Sequence[Group[Key]]]


def _eligible(groups: Sequence[Group[Key]], boxes: Sequence[Box]) -> dict[int, list[Group[Key]]]:
    """By box, the groups that it can hold, largest tasks first. Of boxes that differ in nothing but price, the cheapest."""
    holds: dict[int, list[Group[Key]]] = {}
    for group in sorted(groups, key=lambda g: -g.gpus):
        for place in group.boxes:
            holds.setdefault(place, []).append(group)
    best: dict[tuple[object, ...], int] = {}
    for place, held in holds.items():
        kind = (boxes[place].gpus, *(g.key for g in held))
        rival = best.get(kind)
        if rival is None or boxes[place].usd < boxes[rival].usd:
            best[kind] = place
    return {place: holds[place] for place in sorted(best.values())}


def _share(group: Group[Key], box: Box) -> float:
    return group.gpus / box.gpus if group.gpus and box.gpus else 1.0


def _most(group: Group[Key], box: Box) -> int:
    if 0 < group.gpus < 1:
        return max(int(box.gpus + EPSILON) * int(1 / group.gpus + EPSILON), 1)
    return max(int((box.gpus + EPSILON) / group.gpus), 1) if group.gpus else 1


def _fill(gpus: float, held: Sequence[Group[Key]], left: Mapping[Key, int]) -> dict[Key, int]:
    """As many as go in, largest first. A task without GPUs fills a machine by itself."""
    tasks: dict[Key, int] = {}
    room = gpus
    for place, group in enumerate(held):
        count = left.get(group.key, 0)
        if not count:
            continue
        if group.gpus == 0:
            return tasks or {group.key: 1}
        if group.gpus < 1:
            return tasks | _fill_parts(int(room + EPSILON), held[place:], left)
        fits = min(count, int((room + EPSILON) / group.gpus))
        if fits:
            tasks[group.key] = fits
            room -= fits * group.gpus
        if room <= EPSILON:
            break
    return tasks


def _fill_parts(gpus: int, held: Sequence[Group[Key]], left: Mapping[Key, int]) -> dict[Key, int]:
    """The same for tasks that take a part of one GPU: what is left of two GPUs is not one part."""
    tasks: dict[Key, int] = {}
    parts: list[float] = []  # left of each GPU that is shared
    for group in held:
        count = left.get(group.key, 0)
        if not count or not group.gpus:
            continue
        for place, part in enumerate(parts):
            taken = min(count, int((part + EPSILON) / group.gpus))
            parts[place] -= taken * group.gpus
            count -= taken
        while count and gpus:
            taken = min(count, int((1 + EPSILON) / group.gpus))
            parts.append(1 - taken * group.gpus)
            count -= taken
            gpus -= 1
        if count < left[group.key]:
            tasks[group.key] = left[group.key] - count
    return tasks


def _fills(gpus: float, held: Sequence[Group[Key]], left: Mapping[Key, int]) -> Iterator[dict[Key, int]]:
    """Full of the first group, and with one less of it: what is odd may then share a machine instead of having its own."""
    full = _fill(gpus, held, left)
    if full:
        yield full
    most = full.get(held[0].key, 0)
    if most > 1 and len(held) > 1:
        yield _fill(gpus, held, {**left, held[0].key: most - 1})


def _greedy(
    left: dict[Key, int],
    holds: Holds[Key],
    boxes: Sequence[Box],
    least: Mapping[Key, float],
    stretch: Callable[[int], float],
) -> list[Pattern[Key]]:
    """The pattern of the best ratio of price to least price, again and again. Uses `left` up."""
    found: list[Pattern[Key]] = []
    scores: dict[int, tuple[float, dict[Key, int]]] = {}
    stale = set(holds)
    while True:
        for place in stale:
            score = _best_fill(boxes[place], holds[place], left, least, stretch)
            if score is None:
                scores.pop(place, None)
            else:
                scores[place] = score
        if not scores:
            return found
        place = min(scores, key=lambda p: (scores[p][0], boxes[p].gpus, p))
        tasks = scores[place][1]
        times = min(left[key] // count for key, count in tasks.items())
        found.append(Pattern(place, tasks, times))
        short = set()
        for key, count in tasks.items():
            left[key] -= times * count
            short.add(key)
        stale = {p for p, (_, fill) in scores.items() if any(left[k] < n for k, n in fill.items() if k in short)}


def _best_fill(
    box: Box,
    held: Sequence[Group[Key]],
    left: Mapping[Key, int],
    least: Mapping[Key, float],
    stretch: Callable[[int], float],
) -> tuple[float, dict[Key, int]] | None:
    """The cheapest way to fill it, begun with each of the groups: the largest may be the wrong ones to begin with."""
    best: tuple[float, dict[Key, int]] | None = None
    waiting = [g for g in held if left.get(g.key)]
    for start in range(len(waiting)):
        tasks = _fill(box.gpus, waiting[start:], left)
        if not tasks:
            continue
        value = sum(least[key] * count for key, count in tasks.items())
        ratio = box.usd * stretch(sum(tasks.values())) / value if value > 0 else box.usd
        if best is None or ratio < best[0] - EPSILON:
            best = (ratio, tasks)
    return best


def _mended(
    found: list[Pattern[Key]],
    groups: Sequence[Group[Key]],
    holds: Holds[Key],
    boxes: Sequence[Box],
    stretch: Callable[[int], float],
    least: Mapping[Key, float],
) -> list[Pattern[Key]]:
    """Greed leaves odd machines at its end: the worst ones are packed again in other ways, as long as that is cheaper."""
    by_key = {g.key: g for g in groups}
    total = sum(_usd(p, boxes, stretch) for p in found)
    size = 2
    while size <= TAIL:
        kept, tail = _split(found, size, lambda p: _usd(p, boxes, stretch) / p.times / _worth(p, least))
        usd = sum(_usd(p, boxes, stretch) for p in tail)
        if usd - sum(_worth(p, least) for p in tail) < WORTH_MENDING * total:
            break
        left: dict[Key, int] = {}
        for pattern in tail:
            for key, count in pattern.tasks.items():
                left[key] = left.get(key, 0) + count
        again = _repacked([by_key[key] for key in left], left, holds, boxes, stretch)
        if again and sum(_usd(p, boxes, stretch) for p in again) < usd - EPSILON:
            found, size = [*kept, *again], 2
        elif not kept:
            break
        else:
            size += 1
    return found


def _worth(pattern: Pattern[Key], least: Mapping[Key, float]) -> float:
    return sum(least[key] * count for key, count in pattern.tasks.items()) or EPSILON


def _split(
    found: Sequence[Pattern[Key]], size: int, badness: Callable[[Pattern[Key]], float]
) -> tuple[list[Pattern[Key]], list[Pattern[Key]]]:
    """The `size` machines that cost most for what they hold, one a pattern; and the others."""
    kept = sorted(found, key=badness)
    tail: list[Pattern[Key]] = []
    while kept and len(tail) < size:
        last = kept.pop()
        taken = min(last.times, size - len(tail))
        tail += [Pattern(last.box, last.tasks)] * taken
        if last.times > taken:
            kept.append(Pattern(last.box, last.tasks, last.times - taken))
    return kept, tail


def _repacked(
    groups: Sequence[Group[Key]],
    left: Mapping[Key, int],
    holds: Holds[Key],
    boxes: Sequence[Box],
    stretch: Callable[[int], float],
) -> list[Pattern[Key]] | None:
    """The best of many: each kind of machine first, filled in each way, and greed for the rest."""
    alone = {g.key: min(boxes[b].usd for b in g.boxes) for g in groups}
    tries: list[list[Pattern[Key]]] = []
    for place, held in holds.items():
        waiting = [g for g in held if left.get(g.key)]
        for start in range(len(waiting)):
            for first in _fills(boxes[place].gpus, waiting[start:], left):
                rest = {key: count - first.get(key, 0) for key, count in left.items()}
                tries.append([Pattern(place, first), *_greedy(rest, holds, boxes, alone, stretch)])
    return min(tries, key=lambda ps: sum(_usd(p, boxes, stretch) for p in ps), default=None)


def _usd(pattern: Pattern[Key], boxes: Sequence[Box], stretch: Callable[[int], float]) -> float:
    return boxes[pattern.box].usd * stretch(sum(pattern.tasks.values())) * pattern.times
