"""What fleet is measured beside, in an environment of its own: `python -m benchmarks.peers` makes it from `peers.lock`.

Nothing else in the house imports what is installed there; a peer runs as a process that reads JSON and prints JSON.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parent / ".peers"
LOCK = HERE / "peers.lock"
INSTALLED = ENVIRONMENT / ".installed"  # a copy of the lock that it was made from
HOW = "python -m benchmarks.peers"


def python() -> Path | None:
    """The peers' interpreter; None: they are not installed, or not as the lock says."""
    is_ready = INSTALLED.exists() and INSTALLED.read_bytes() == LOCK.read_bytes()
    return ENVIRONMENT / "bin" / "python" if is_ready else None
