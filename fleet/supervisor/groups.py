"""PURE: which of several GPUs that would all do, when a task gets so many of them for itself.

    1. the best joined   as few pairs as can be on different NUMA nodes, then on one node only, then behind one PCIe switch
                         only; what is left is joined by NVLink
    2. the smallest      large memory is kept for the tasks that ask for it
    3. least broken up   of what is left free, the largest joined groups stay as large as can be
Where the driver does not say how GPUs are joined, or all are joined alike, neighbours by number stand in for joined ones.
Source: docs/adr/0023-which-gpus.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb

from fleet.model import Gpu

Links = Mapping[
    frozenset[str], int
]  # uuids of two GPUs -> how far apart: NVLink 0, PCIe switch 1, NUMA node 2, beyond 3
FARTHEST = 3
# More sets than these are not all looked at, but built up from each GPU on: of 8 GPUs there are 70 at most.
MOST_SETS = 2000


def best_group(usable: Sequence[Gpu], count: int, links: Links) -> tuple[Gpu, ...]:
    """`count` of these, which are at least as many; in the order of their numbers."""
    far = _Distances(usable, links)
    if far.are_alike:
        return _neighbours(usable, count)
    whole = set(usable)
    sets = _sets(usable, count, far)
    fewest = min(far.apart(each) for each in sets)
    best = min(
        (each for each in sets if far.apart(each) == fewest),
        key=lambda s: (_memory(s), far.broken_up(whole.difference(s)), [gpu.index for gpu in s]),
    )
    return tuple(best)


class _Distances:
    """How far apart these GPUs are, two by two."""

    def __init__(self, usable: Sequence[Gpu], links: Links) -> None:
        self._links = links
        found = {links.get(frozenset((a.uuid, b.uuid)), FARTHEST) for a, b in combinations(usable, 2)} if links else ()
        self.are_alike = len(found) <= 1

    def apart(self, gpus: Sequence[Gpu]) -> tuple[int, ...]:
        """How many pairs of these are so far apart, the farthest first: less is better joined."""
        counts = [0] * FARTHEST
        for a, b in combinations(gpus, 2):
            if far := self._links.get(frozenset((a.uuid, b.uuid)), FARTHEST):
                counts[FARTHEST - far] += 1
        return tuple(counts)

    def broken_up(self, left: set[Gpu]) -> tuple[tuple[int, ...], ...]:
        """The sizes of the joined groups of these, by each way to be joined, the nearest first: less is less broken up."""
        return tuple(tuple(sorted(-size for size in self._sizes(left, most))) for most in range(FARTHEST))

    def _sizes(self, gpus: set[Gpu], most: int) -> list[int]:
        sizes, left = [], set(gpus)
        while left:
            group = {left.pop()}
            edge = set(group)
            while edge:
                edge = {
                    b for b in left if any(self._links.get(frozenset((a.uuid, b.uuid)), FARTHEST) <= most for a in edge)
                }
                left -= edge
                group |= edge
            sizes.append(len(group))
        return sizes


def _sets(usable: Sequence[Gpu], count: int, far: _Distances) -> list[tuple[Gpu, ...]]:
    """All sets of so many, or, where there are too many, the best that grows from each GPU."""
    ordered = sorted(usable, key=lambda gpu: gpu.index)
    if comb(len(ordered), count) <= MOST_SETS:
        return list(combinations(ordered, count))
    return [_grown([seed], ordered, count, far) for seed in ordered]


def _grown(group: list[Gpu], usable: Sequence[Gpu], count: int, far: _Distances) -> tuple[Gpu, ...]:
    while len(group) < count:
        others = [gpu for gpu in usable if gpu not in group]
        group = [*group, min(others, key=lambda gpu: (far.apart((*group, gpu)), gpu.memory_gib, gpu.index))]
    return tuple(sorted(group, key=lambda gpu: gpu.index))


def _neighbours(usable: Sequence[Gpu], count: int) -> tuple[Gpu, ...]:
    """In the fullest aligned group of neighbours by number that has them; on a tie the smallest, lowest ones."""
    size = 1
    while size < count:
        size *= 2
    width = 1 + max(gpu.index for gpu in usable)
    while size < 2 * width:
        starts = sorted({gpu.index // size for gpu in usable})
        groups = [[g for g in usable if g.index // size == start] for start in starts]
        enough = [group for group in groups if len(group) >= count]
        if enough:
            best = min(enough, key=lambda group: (_memory(group), _around(group, usable, size, width)))
            return tuple(sorted(best, key=lambda g: (g.memory_gib, g.index))[:count])
        size *= 2
    return tuple(sorted(usable, key=lambda g: g.index)[:count])


def _memory(group: Sequence[Gpu]) -> float:
    return max(gpu.memory_gib for gpu in group)


def _around(group: Sequence[Gpu], usable: Sequence[Gpu], size: int, width: int) -> tuple[int, ...]:
    """How many usable GPUs lie in ever larger groups around this one: few means that little is broken up."""
    first = group[0].index
    counts = [len(group)]
    while size < width:
        size *= 2
        counts.append(sum(1 for gpu in usable if gpu.index // size == first // size))
    return (*counts, first)
