"""The first process of a local instance, as PID 1 is of a VM: `python -m fleet.providers.local_machine DIR LOCK_FD`.

It starts the supervisor, collects orphans, passes on the order to end, and leaves nothing running when it ends itself.
Standard library only, and little of it: one of these runs beside every local supervisor.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# From the order to end: so long for the supervisor to put its tasks back and say goodbye, as a cloud gives a VM.
GRACE_S = 15.0
# Two signals at once would be taken for one.
SECOND_ORDER_S = 0.3

# A task must not find the dispatcher's secrets (cloud keys, tokens) in its environment: only these pass.
INHERITED = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH"} | {
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "VIRTUAL_ENV",
    "DOCKER_HOST",  # an engine without root has its socket where its user is
    "FAKE_NVML_STATE",
    "FLEET_PROVIDER",
    "FLEET_METADATA_URL",
}
INHERITED_PREFIXES = (
    "LC_",
    "PIP_",
    "UV_",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)

_libc = ctypes.CDLL(None, use_errno=True)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What a machine here gets of the environment of whoever starts it."""
    return {key: value for key, value in environ.items() if key in INHERITED or key.startswith(INHERITED_PREFIXES)}


def main(place: str, lock: int) -> int:
    """Run the instance in `place` to its end; `lock` is the inherited, locked file that says that it runs."""
    os.set_inheritable(lock, False)  # the lock must die with this process, not with the last of its tasks
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    boot_path = os.path.join(place, "boot.json")
    with open(boot_path) as file:
        told = json.load(file)
    boot = told["environment"]
    _say_what_it_is(place, told["machine"])
    os.unlink(boot_path)
    signal.signal(signal.SIGTERM, lambda *_: None)  # so that it interrupts sigtimedwait below instead of ending us
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    supervisor = _start(boot)
    status = _wait(supervisor)
    _end_all()
    end = {"exit_code": os.waitstatus_to_exitcode(status), "at": time.time()}
    with open(os.path.join(place, "ended.json"), "w") as file:
        json.dump(end, file)
    _forget(boot["FLEET_DIR"])
    return 0


def _say_what_it_is(place: str, facts: dict[str, object]) -> None:
    """Write machine.json, unless the provider has: it may have been killed between starting us and writing it."""
    path = os.path.join(place, "machine.json")
    if os.path.exists(path):
        return
    with open(f"{path}.own", "w") as file:
        json.dump({**facts, "pid": os.getpid()}, file)
    os.rename(f"{path}.own", path)


def _start(boot: dict[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        _become_supervisor(boot)
    return pid


def _become_supervisor(boot: dict[str, str]) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGCHLD})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # nobody would end the machine if we were killed
    os.makedirs(boot["FLEET_DIR"], exist_ok=True)
    os.execve(sys.executable, [sys.executable, "-m", "fleet.supervisor"], {**inherited(os.environ), **boot})


def _wait(supervisor: int) -> int:
    """Until the supervisor ends; its wait status. An order to end is passed on twice (the first means drain, the second
    means now), and carried out by force at the deadline."""
    orders: list[tuple[float, int]] = []  # (when, signal), in order
    while True:
        while (ended := _reap())[0]:
            if ended[0] == supervisor:
                return ended[1]
        left = max(orders[0][0] - time.monotonic(), 0.0) if orders else 3600.0
        got = signal.sigtimedwait({signal.SIGTERM, signal.SIGCHLD}, left)
        now = time.monotonic()
        if got and got.si_signo == signal.SIGTERM and not orders:
            orders = [(now, signal.SIGTERM), (now + SECOND_ORDER_S, signal.SIGTERM), (now + GRACE_S, signal.SIGKILL)]
        if orders and now >= orders[0][0]:
            os.kill(supervisor, orders[0][1])
            orders = orders[1:] or [(now + GRACE_S, signal.SIGKILL)]


def _reap() -> tuple[int, int]:
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


def _end_all() -> None:
    """Kill every descendant; orphans come to us because we are their subreaper, so in the end none is left."""
    while children := _children():
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _forget(work: str) -> None:
    """A VM takes its disk with it; environments of tasks are hundreds of megabytes."""
    import shutil  # only now: it would stay in memory beside every supervisor

    shutil.rmtree(work, ignore_errors=True)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], int(sys.argv[2])))
