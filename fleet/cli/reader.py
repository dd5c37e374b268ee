"""Whether anybody still reads what a command prints."""

from __future__ import annotations

import sys


def has_gone() -> bool:
    """The other end of the pipe is closed, as after `| head -1`: who follows something quiet would never notice by writing."""
    import select

    if sys.stdout is None:
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # no file of the system's, as in tests
        return False
