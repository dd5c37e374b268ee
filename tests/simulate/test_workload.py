"""Made workloads: what each kind says of itself holds."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from fleet.errors import ConfigError
from fleet.simulate.trace import Submission, read_trace
from fleet.simulate.workload import DAY_S, KINDS, SAME_GAP_S, Kind, as_trace, kind_of, make_kind
from tests.builders import a_queue

EVERY = pytest.mark.parametrize("name", KINDS)
WEEKS = 4  # so many that chance evens out


@cache
def made(name: str, seed: int = 1) -> tuple[Submission, ...]:
    return make_kind(KINDS[name], 7 * WEEKS, seed=seed)


def hours(workload: tuple[Submission, ...], first: int, last: int) -> int:
    """Submissions on workdays from `first` to `last` o'clock."""
    at = [(job.submit_s / 3600 % 24, int(job.submit_s / DAY_S) % 7) for job in workload]
    return sum(first <= hour < last and day < 5 for hour, day in at)


@EVERY
def test_there_are_as_many_as_it_says_and_the_same_seed_makes_the_same(name: str) -> None:
    assert len(made(name)) == round(KINDS[name].tasks_per_day * 7 * WEEKS)
    assert made(name) == made.__wrapped__(name)
    assert made(name) != made(name, seed=2)
    assert list(made(name)) == sorted(made(name), key=lambda job: job.submit_s)


@EVERY
def test_nights_and_weekends_are_as_quiet_as_it_says(name: str) -> None:
    kind, workload = KINDS[name], made(name)
    afternoon, small_hours = hours(workload, 13, 17), hours(workload, 1, 5)
    assert small_hours / afternoon == pytest.approx(kind.night, rel=0.25, abs=0.12)
    weekend = sum(int(job.submit_s / DAY_S) % 7 >= 5 for job in workload) / len(workload)
    assert weekend == pytest.approx(2 * kind.weekend / (5 + 2 * kind.weekend), rel=0.35)


@EVERY
def test_sizes_have_the_shares_that_it_says(name: str) -> None:
    kind, workload = KINDS[name], made(name)
    counts, weights = Counter(job.gpus for job in workload), sum(kind.sizes.values())
    assert set(counts) == set(kind.sizes)
    for size, weight in kind.sizes.items():
        assert counts[size] / len(workload) == pytest.approx(weight / weights, rel=0.3, abs=0.03), size


@EVERY
def test_durations_have_the_quantiles_that_it_says(name: str) -> None:
    kind, workload = KINDS[name], made(name)
    ordered = sorted(job.duration_s for job in workload)
    for share, sigmas in ((0.1, -1.2816), (0.5, 0.0), (0.9, 1.2816)):
        expected = kind.median_s * math.exp(sigmas * kind.spread)
        assert ordered[int(share * len(ordered))] == pytest.approx(expected, rel=0.35), share


@EVERY
def test_as_many_come_in_bursts_as_it_says(name: str) -> None:
    """A burst: the same user sends the next task of the same size within seconds, again and again."""
    kind, workload = KINDS[name], made(name)
    last: dict[tuple[str, float], float] = {}
    followers = 0
    for job in workload:
        key = (job.user, job.gpus)
        followers += job.submit_s - last.get(key, -DAY_S) < 5 * SAME_GAP_S
        last[key] = job.submit_s
    assert followers / len(workload) == pytest.approx(kind.burst_share, rel=0.3, abs=0.12)


def test_a_made_trace_reads_as_what_was_made(tmp_path: Path) -> None:
    queues = (a_queue("train"), a_queue("big"))
    workload = make_kind(KINDS["mixed"], 2, seed=4, queues=("train", "big"))
    (tmp_path / "t.csv").write_text(as_trace(workload))
    assert read_trace(tmp_path / "t.csv", queues) == workload


def test_without_a_fleet_file_a_made_trace_names_no_queue() -> None:
    head, first, *_ = as_trace(make_kind(KINDS["sweeps"], 1)).splitlines()
    assert (head, first.count(",")) == ("submit_s,gpus,duration_s,user", 3)


def test_what_cannot_be_made_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"--workload sweep: did you mean sweeps\?"):
        kind_of("sweep")
    with pytest.raises(ConfigError, match="--workload x: there are research, sweeps, inference-batch, mixed"):
        kind_of("x")
    kind: Kind = KINDS["sweeps"]
    with pytest.raises(ConfigError, match="--days 0: expected more than 0"):
        make_kind(kind, 0)
    with pytest.raises(ConfigError, match="--days nan: expected more than 0"):
        make_kind(kind, math.nan)
    with pytest.raises(ConfigError, match="--tasks 0: expected 1 to 1000000"):
        make_kind(kind, 1, tasks=0)
