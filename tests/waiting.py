"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")
# What waits shares two cores with what it waits for.
LONGEST_STEP_S = 0.2
# A busy machine is no failure: limits are what an idle one needs at the very most.
PATIENCE = 3


def wait_for(condition: Callable[[], T], timeout_s: float = 20.0, what: str = "", every_s: float = 0.02) -> T:
    """The first true value of `condition`. It is asked every `every_s` seconds; less often (still five times a second) when the
    question itself takes long, and when it has been asked for seconds.

    Raises:
        AssertionError: it did not come true in time.
    """
    began = time.monotonic()
    limit_s = timeout_s * PATIENCE
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > began + limit_s:
            raise AssertionError(f"not within {limit_s:g} s: {what or condition}")
        slack = max((now - began) / 20, (now - asked) * 4)
        time.sleep(max(every_s, min(LONGEST_STEP_S, slack)))


def is_alive(pid: int) -> bool:
    """It runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
