"""No process of a task outlives its allocation, and none outlives the supervisor, however it dies.

Three nets, each under a failure of the one before:
    the group    an agent leads its own session; the whole group is killed when the agent has ended
    the orphans  what left the group falls to us (we are the subreaper) and is known by a mark in its environment
    the guard    a shell that waits for our end: when we are killed with SIGKILL, it kills the groups we had
The kernel also kills each agent itself at our death (PR_SET_PDEATHSIG), should the guard be gone too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Collection

import psutil

MARK = "FLEET_ALLOCATION"  # in the environment of every process of a task
# What starts others while it is looked for leaves them to the next look; with all that start any killed, two are enough.
LOOKS = 5
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# Reads "+group" and "-group"; at the end of its input, that is at our death, kills those that are left.
GUARD_SCRIPT = """
trap '' TERM INT HUP
groups=' '
while read -r line; do
  group=${line#?}
  rest=' '
  for each in $groups; do [ "$each" = "$group" ] || rest="$rest$each "; done
  groups=$rest
  case $line in +*) groups="$groups$group " ;; esac
done
for each in $groups; do kill -s KILL -- "-$each" 2>/dev/null; done
"""

_prctl = ctypes.CDLL(None, use_errno=True).prctl  # found now: nothing may be looked up between fork and exec


def adopt_orphans() -> None:
    """From now on the orphans of our descendants become our children, not those of the machine's first process."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """For the child, between fork and exec: the kernel kills it when the thread that started it is gone."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Guard:
    """A shell of 1 MB that outlives us by a moment; there from the first group on."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def add(self, group: int) -> None:
        if self._process is None:
            self._process = self._started()
        self._say(f"+{group}")

    def remove(self, group: int) -> None:
        self._say(f"-{group}")

    def close(self) -> None:
        """Kill the groups that are left, and end the guard."""
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", GUARD_SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath},
            start_new_session=True,
            cwd="/",
        )

    def _say(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):  # somebody killed it; the other two nets are left
            os.write(self._process.stdin.fileno(), f"{line}\n".encode())


def signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_marked(mark: str) -> int:
    """Kill every descendant of ours that carries this mark, also what they start meanwhile; how many there were."""
    killed: set[int] = set()
    for _ in range(LOOKS):
        found = [child for child in psutil.Process().children(recursive=True) if child.pid not in killed]
        marked = {child.pid for child in found if _is_killed(child, mark)}
        if not marked:
            break
        killed |= marked
    return len(killed)


def _is_killed(child: psutil.Process, mark: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        if child.environ().get(MARK) == mark:
            child.kill()
            return True
    return False


def mark_of(pid: int) -> str | None:
    """The mark of this process, if it is a descendant of ours: other supervisors of this machine have the same marks."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        if os.getpid() in (parent.pid for parent in process.parents()):
            return process.environ().get(MARK)
    return None


def reap_orphans(ours: Collection[int | None]) -> None:
    """Bury adopted children that have ended, but none of `ours`, whose exit codes are awaited elsewhere."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ChildProcessError):
            if child.pid not in ours and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
