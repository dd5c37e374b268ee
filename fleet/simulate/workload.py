"""A made workload with the habits of real ones: days and weekends, bursts of sweeps, mostly small and short tasks with a
few that are neither. The same seed makes the same workload. `KINDS` are those that `fleet simulate --workload` knows;
`tests/simulate/test_workload.py` holds them to what they say of themselves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from fleet.errors import ConfigError
from fleet.nearest import which
from fleet.simulate.trace import Submission

DAY_S = 86400.0
# Most tasks of shared clusters take one GPU; the large ones take most of the GPU-hours.
SIZES: Mapping[float, float] = {1: 70, 2: 8, 4: 12, 8: 10}
BURST = (5, 39)  # tasks of one sweep, at least and at most
LONGEST_S = 14 * DAY_S
MOST_TASKS = 1_000_000
USERS = 12
# How the tasks of one sweep differ from each other, and how far apart they are submitted.
SAME_SPREAD, SAME_GAP_S = 0.2, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a workload of this name is like."""

    about: str
    tasks_per_day: float
    median_s: float
    spread: float  # sigma of the log of durations: 1.6 = a tenth of them takes more than 7.8 times the median
    sizes: Mapping[float, float] = field(
        default_factory=lambda: SIZES
    )  # GPUs of a task, with their weights among tasks and sweeps
    burst_share: float = 0.3  # of the tasks come in bursts: somebody starts a sweep
    burst: tuple[int, int] = BURST
    night: float = 0.1  # submissions at three in the morning, for each one at three in the afternoon
    weekend: float = 0.35  # on a day of the weekend, for each one on another day


KINDS: Mapping[str, Kind] = {
    "research": Kind(
        about="training runs of an hour, some of days; 1 to 8 GPUs",
        tasks_per_day=80,
        median_s=3600.0,
        spread=1.6,
        burst_share=0.2,
    ),
    "sweeps": Kind(
        about="bursts of 20 to 80 tasks of minutes, on one GPU each",
        tasks_per_day=500,
        median_s=400.0,
        spread=0.8,
        sizes={1: 95, 2: 5},
        burst_share=0.9,
        burst=(20, 80),
    ),
    "inference-batch": Kind(
        about="short tasks on one GPU each, day and night",
        tasks_per_day=700,
        median_s=120.0,
        spread=0.4,
        sizes={1: 100},
        burst_share=0.0,
        night=1.0,
        weekend=1.0,
    ),
    "mixed": Kind(
        about="from a quarter of a GPU to eight, from minutes to hours",
        tasks_per_day=250,
        median_s=900.0,
        spread=1.3,
        sizes={0.25: 20, 0.5: 20, 1: 36, 2: 8, 4: 10, 8: 6},
    ),
}


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in KINDS:
        raise ConfigError(f"--workload {name}: {which(name, KINDS)}")
    return KINDS[name]


def make_kind(
    kind: Kind, days: float, *, seed: int = 0, queues: Sequence[str] = ("",), tasks: int | None = None
) -> tuple[Submission, ...]:
    """So many days of this kind; `tasks`: how many in all, if other than the kind has in so many days.

    Raises:
        ConfigError: no days, or more tasks than anybody simulates.
    """
    if not 0 < days <= 3650:
        raise ConfigError(f"--days {days:g}: expected more than 0 and at most 3650")
    count = max(round(kind.tasks_per_day * days), 1) if tasks is None else tasks
    if not 0 < count <= MOST_TASKS:
        raise ConfigError(f"--tasks {count}: expected 1 to {MOST_TASKS}")
    return make_workload(
        count,
        days,
        seed=seed,
        queues=queues,
        sizes=kind.sizes,
        median_s=kind.median_s,
        spread=kind.spread,
        burst_share=kind.burst_share,
        burst=kind.burst,
        night=kind.night,
        weekend=kind.weekend,
    )


def make_workload(
    count: int,
    days: float,
    *,
    seed: int = 0,
    queues: Sequence[str] = ("train",),
    sizes: Mapping[float, float] = SIZES,
    median_s: float = 900.0,
    spread: float = 1.6,
    burst_share: float = 0.3,
    burst: tuple[int, int] = BURST,
    night: float = 0.1,
    weekend: float = 0.35,
) -> tuple[Submission, ...]:
    """About `days` days of `count` tasks. `sizes`: GPUs of a task with their weights; `spread`: sigma of the log of durations."""
    rng = Random(seed)
    made: list[Submission] = []
    # So many of the submissions start a sweep that the share of tasks that belong to one comes out right.
    mean = sum(burst) / 2
    starts_sweep = burst_share / (mean * (1 - burst_share) + burst_share)
    while len(made) < count:
        at = _daytime(rng, days, night, weekend)
        size = rng.choices(list(sizes), list(sizes.values()))[0]
        queue, user = rng.choice(list(queues)), f"user{rng.randrange(USERS)}"
        is_burst = rng.random() < starts_sweep
        typical = median_s * math.exp(rng.gauss(0, spread))
        for _ in range(min(rng.randint(*burst) if is_burst else 1, count - len(made))):
            duration = min(typical * math.exp(rng.gauss(0, SAME_SPREAD)), LONGEST_S)
            submission = Submission(
                submit_s=round(at, 1), gpus=size, duration_s=max(round(duration, 1), 1.0), queue=queue, user=user
            )
            made.append(submission)
            at += rng.expovariate(1 / SAME_GAP_S)
    return tuple(sorted(made, key=lambda submission: submission.submit_s))


def as_trace(workload: Sequence[Submission]) -> str:
    """As a CSV file that `read_trace` reads. Without a queue where none is known: then it is the fleet file's first."""
    has_queues = any(job.queue for job in workload)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["submit_s", "gpus", "duration_s", "user", *(["queue"] if has_queues else [])])
    for job in workload:
        row = [f"{job.submit_s:.1f}", f"{job.gpus:g}", f"{job.duration_s:.1f}", job.user]
        writer.writerow([*row, *([job.queue] if has_queues else [])])
    return text.getvalue()


def _daytime(rng: Random, days: float, night: float, weekend: float) -> float:
    """A moment when people work: afternoons more than nights, weekdays more than weekends."""
    while True:
        at = rng.random() * days * DAY_S
        hour, weekday = at / 3600 % 24, int(at / DAY_S) % 7
        busy = (1 + night) / 2 + (1 - night) / 2 * math.cos((hour - 15) / 24 * 2 * math.pi)
        if rng.random() < busy * (weekend if weekday >= 5 else 1.0):
            return at
