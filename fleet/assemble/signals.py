"""Signals that ask a long-running command to end, as events.

Python runs handlers in the main thread, when that comes to it. One that waits for an event need not: of two signals in quick
succession the kernel may hand both to another thread, and then nothing interrupts the wait. And where a handler does run,
that may be in the middle of `Event.set`, whose lock it would wait for, for ever. So nothing is done in handlers: the number
of each signal is written into a pipe, whichever thread the kernel chose, and a thread of ours reads it.
"""

from __future__ import annotations

import os
import signal
import threading

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def requests_to_end() -> tuple[threading.Event, threading.Event]:
    """Set at the first SIGTERM, SIGINT or SIGHUP; set at the second. Called by the main thread."""
    stop, hurry = threading.Event(), threading.Event()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def tell() -> None:
        for event in (stop, hurry):
            while os.read(read_end, 1)[0] not in ENDS:
                pass
            event.set()

    threading.Thread(target=tell, name="signals", daemon=True).start()
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in ENDS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in `nohup fleet up &`
            signal.signal(number, lambda *_: None)
    return stop, hurry
