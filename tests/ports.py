"""Ports for servers that a test starts, ends and starts again."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 12000, 32000
"""Below the ports that the kernel gives to outgoing connections (32768 on): of those, any connection may take one while its server is
down, and whoever knocks at one again and again may at last be answered by himself."""


def a_free_port() -> int:
    """One that nobody has now, and that no outgoing connection will take."""
    while True:
        port = random.randint(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
