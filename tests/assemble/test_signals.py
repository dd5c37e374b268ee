"""Signals that ask to end reach a process that does nothing but wait for them."""

import signal
import subprocess
import sys

import pytest

from tests.signals import heed_signals
from tests.waiting import PATIENCE

WAITS = """\
import threading, time
from fleet.assemble.signals import requests_to_end
stop, hurry = requests_to_end()
for _ in range(6):  # whom the kernel may choose instead of the main thread
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("waits", flush=True)
stop.wait()
print("stop", flush=True)
hurry.wait()
print("hurry", flush=True)
"""


@pytest.mark.parametrize("attempt", range(8))
def test_two_signals_in_quick_succession_are_both_heard(attempt: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True, preexec_fn=heed_signals
    )
    assert process.stdout
    assert process.stdout.readline() == "waits\n"
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    try:
        assert process.communicate(timeout=20 * PATIENCE)[0] == "stop\nhurry\n"
    finally:
        process.kill()
    assert process.returncode == 0
