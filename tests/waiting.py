"""Waiting for a condition, with a deadline, in place of a sleep."""

import time

import psutil


def until(condition, seconds: float = 20.0, why: str = ""):
    """The condition's first true value; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {why or condition}"
        time.sleep(0.02)
    return value


def is_alive(pid: int) -> bool:
    """It runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
