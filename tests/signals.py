"""Processes that a test starts heed the signals that ask to end."""

import signal


def heed_signals() -> None:
    """For a child, before its program: whoever starts tests in the background has them ignore Ctrl-C or a closed terminal, and so
    would all that they start."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
