"""A measured figure and its JSON line."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Sequence
from typing import TypedDict


class Spread(TypedDict):
    """How samples are spread, as fields of a line."""

    n: int
    p50: float
    p95: float
    worst: float


def line(
    name: str, value: float, unit: str, *, goal: float | None = None, peer: float | None = None, **more: object
) -> str:
    """The JSON line of a figure. `goal`: at most that much; `peer`: the same of somebody else, in the same run; `ratio`:
    how many times more that is."""
    found: dict[str, object] = {"name": name, "value": rounded(value), "unit": unit}
    if goal is not None:
        found |= {"goal": goal, "is_met": value <= goal}
    if peer is not None:
        found |= {"peer": rounded(peer), "ratio": rounded(peer / value) if value else None}
    found |= {key: rounded(each) if isinstance(each, float) else each for key, each in more.items()}
    return json.dumps({**found, "load": round(os.getloadavg()[0], 2)})


def spread(samples: Sequence[float]) -> Spread:
    """Of at least one sample."""
    return Spread(
        n=len(samples),
        p50=rounded(statistics.median(samples)),
        p95=rounded(percentile(samples, 95)),
        worst=rounded(max(samples)),
    )


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that `share` per cent of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(math.ceil(len(ordered) * share / 100), 1) - 1]


def rounded(value: float) -> float:
    """Four digits that count: more would claim more than was measured."""
    return float(f"{value:.4g}")
