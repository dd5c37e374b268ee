"""A made workload with the habits of real ones: days and weekends, bursts of sweeps, mostly small and short tasks with a
few that are neither. The same seed makes the same workload."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

from fleet.simulate.trace import Submission

DAY_S = 86400.0
# Most tasks of shared clusters take one GPU; the large ones take most of the GPU-hours.
SIZES: Mapping[float, float] = {1: 70, 2: 8, 4: 12, 8: 10}
BURST_SHARE = 0.3  # of the tasks come in bursts: somebody starts a sweep
LONGEST_S = 14 * DAY_S


def make_workload(
    count: int,
    days: float,
    *,
    seed: int = 0,
    queues: Sequence[str] = ("train",),
    sizes: Mapping[float, float] = SIZES,
    median_s: float = 900.0,
    spread: float = 1.6,
) -> tuple[Submission, ...]:
    """About `days` days of `count` tasks. `sizes`: GPUs of a task with their weights; `spread`: sigma of the log of durations."""
    rng = Random(seed)
    made: list[Submission] = []
    while len(made) < count:
        at = _daytime(rng, days)
        size = rng.choices(list(sizes), list(sizes.values()))[0]
        queue, user = rng.choice(list(queues)), f"user{rng.randrange(12)}"
        # A sweep is many tasks of one kind within minutes: so many that the share of such tasks comes out right.
        is_burst = rng.random() < BURST_SHARE / 10
        typical = median_s * math.exp(rng.gauss(0, spread))
        for _ in range(min(rng.randrange(5, 40) if is_burst else 1, count - len(made))):
            duration = min(typical * math.exp(rng.gauss(0, 0.2)), LONGEST_S)
            submission = Submission(
                submit_s=round(at, 1), gpus=size, duration_s=max(round(duration, 1), 1.0), queue=queue, user=user
            )
            made.append(submission)
            at += rng.expovariate(1 / 20)
    return tuple(sorted(made, key=lambda submission: submission.submit_s))


def _daytime(rng: Random, days: float) -> float:
    """A moment when people work: afternoons more than nights, weekdays more than weekends."""
    while True:
        at = rng.random() * days * DAY_S
        hour, weekday = at / 3600 % 24, int(at / DAY_S) % 7
        busy = 0.55 + 0.45 * math.cos((hour - 15) / 24 * 2 * math.pi)
        if rng.random() < busy * (0.35 if weekday >= 5 else 1.0):
            return at
