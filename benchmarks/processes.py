"""Processes as the kernel sees them: who descends from whom, since when, what they cost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a process and its descendants hold and have used."""

    rss_mib: float
    uss_mib: float | None  # theirs alone; None: the kernel does not tell
    cpu_s: float  # ended children included
    processes: int


def descendants(pid: int) -> Iterator[int]:
    """All living ones. Reads the kernel's own lists of children: psutil would look at every process of the machine."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for thread in threads:
        try:
            children = (thread / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from descendants(int(child))


def agent_of(pid: int, task: str) -> int | None:
    """The `clearml_agent execute` process of this task below `pid`."""
    for child in descendants(pid):
        try:
            arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"execute" in arguments and task.encode() in arguments:
            return child
    return None


def created_at(pid: int) -> float:
    """When the process was forked, as `time.time()` counts, to one tick (10 ms).

    Not psutil's `create_time`: that adds the kernel's boot time, which is cut to whole seconds.
    """
    stat = Path(f"/proc/{pid}/stat").read_text()
    ticks = int(stat.rpartition(")")[2].split()[19])
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / TICKS_PER_S)


def cost(pid: int) -> Cost:
    """Of `pid` and its descendants, now."""
    rss = uss = cpu = 0.0
    is_uss_known = True
    everyone = [psutil.Process(each) for each in (pid, *descendants(pid))]
    for process in everyone:
        rss += process.memory_info().rss
        try:
            uss += process.memory_full_info().uss
        except psutil.AccessDenied:
            is_uss_known = False
        times = process.cpu_times()
        cpu += times.user + times.system + times.children_user + times.children_system
    return Cost(rss_mib=rss / MIB, uss_mib=uss / MIB if is_uss_known else None, cpu_s=cpu, processes=len(everyone))
