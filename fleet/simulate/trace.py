"""A workload: what was submitted when, how many GPUs it took, and for how long. Read from a CSV file, or made (`workload`)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import ConfigError
from fleet.model import SMALLEST_PART, GpuNeed, Queue, read_gpu_type
from fleet.nearest import which
from fleet.simulate.rows import read_rows

NEEDED = ("submit_s", "gpus", "duration_s")
OPTIONAL = ("queue", "gpu_type", "user", "instances", "same_zone")
MOST_GPUS = 1024
DECIMALS = 3  # of a part of a GPU: a third is 0.333, and three of them fit on one
MOST_SECONDS = 10 * 365 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One task of a workload."""

    submit_s: float  # after the start
    gpus: float  # whole, or a part of one
    duration_s: float  # of one undisturbed run
    queue: str
    gpu_type: str | None = None
    user: str = ""
    instances: int = 1  # at once, each with so many GPUs
    is_one_zone: bool = False  # all of them

    @property
    def need(self) -> GpuNeed:
        return GpuNeed(at_least=self.gpus, at_most=self.gpus)

    @property
    def tags(self) -> tuple[str, ...]:
        """The task's own wishes, as a user writes them."""
        kind = [f"gpu_type:{self.gpu_type}"] if self.gpu_type else []
        gang = [f"instances:{self.instances}"] if self.instances > 1 else []
        return (f"gpus:{self.need}", *kind, *gang, *(["same_zone:true"] if self.is_one_zone else []))


def task_id(place: int) -> str:
    """The id of the task at this place of a workload."""
    return f"t{place:06}"


def read_trace(path: Path, queues: Sequence[Queue]) -> tuple[Submission, ...]:
    """The rows of a trace, in the order of their submission. Columns that are not ours are ignored.

    Raises:
        ConfigError: the file, its head or a row cannot be read; the text names the row as an editor counts lines.
    """
    rows = read_rows(path, NEEDED, "a trace", f" and may have {', '.join(OPTIONAL)}")
    found = [_row(row, f"{path}, row {number}", queues) for number, row in rows]
    return tuple(sorted(found, key=lambda submission: submission.submit_s))


def _row(row: Mapping[str, str], where: str, queues: Sequence[Queue]) -> Submission:
    known = [queue.name for queue in queues]
    queue = (row.get("queue") or "").strip() or known[0]
    if queue not in known:
        raise ConfigError(f"{where}: no queue is called {queue!r} in the fleet file; {which(queue, known)}")
    return Submission(
        submit_s=_number(row, "submit_s", where, MOST_SECONDS),
        gpus=_gpus(row, where),
        duration_s=_number(row, "duration_s", where, MOST_SECONDS),
        queue=queue,
        gpu_type=_gpu_type(row, where),
        user=(row.get("user") or "").strip(),
        instances=_instances(row, where),
        is_one_zone=(row.get("same_zone") or "").strip().lower() in ("true", "yes", "1"),
    )


def _number(row: Mapping[str, str], key: str, where: str, most: float) -> float:
    text = (row.get(key) or "").strip()
    try:
        number = float(text)
    except ValueError:
        raise ConfigError(f"{where}: {key} is {text!r}, not a number") from None
    if not math.isfinite(number) or not 0 <= number <= most:
        raise ConfigError(f"{where}: {key} is {text}; expected 0 to {most:g}")
    return number


def _gpus(row: Mapping[str, str], where: str) -> float:
    gpus = _number(row, "gpus", where, MOST_GPUS)
    if gpus > 1 and not gpus.is_integer():
        raise ConfigError(f"{where}: gpus is {gpus:g}; a part of a GPU is less than 1, more than one are whole")
    return max(round(gpus, DECIMALS), SMALLEST_PART) if 0 < gpus < 1 else gpus


def _instances(row: Mapping[str, str], where: str) -> int:
    text = (row.get("instances") or "1").strip()
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_GPUS:
        raise ConfigError(f"{where}: instances is {text!r}; expected a whole number, 1 to {MOST_GPUS}")
    return int(text)


def _gpu_type(row: Mapping[str, str], where: str) -> str | None:
    text = (row.get("gpu_type") or "").strip()
    try:
        return read_gpu_type(text) if text else None
    except ValueError as error:
        raise ConfigError(f"{where}: gpu_type is {text!r}; {error}") from error
