"""Containers outlive a supervisor that is killed, so that the next one can take them over. But not for ever: without a next one
somebody else will be given their tasks.

A shell waits for our death, then as long as a successor may take to come, then kills the containers that are left. While there is
none it is not there either: it takes 1.7 MB.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

# Reads "+pid:id" and "-pid:id"; at the end of its input, that is at our death, waits. A successor deletes the file "$1".
# A number may have been given to a stranger meanwhile: only what is in the container's cgroup is killed.
SCRIPT = """
trap '' TERM INT HUP
ours=' '
while read -r line; do
  one=${line#?}
  rest=' '
  for each in $ours; do [ "$each" = "$one" ] || rest="$rest$each "; done
  ours=$rest
  case $line in +*) ours="$ours$one " ;; esac
done
waited=0
while [ "$waited" -lt "$2" ] && [ "$ours" != ' ' ]; do
  [ -e "$1" ] || exit 0
  sleep 1
  waited=$((waited + 1))
done
[ -e "$1" ] || exit 0
rm -f "$1"
for each in $ours; do
  while read -r group; do
    case $group in *"${each#*:}"*) kill -s KILL "${each%%:*}"; break ;; esac
  done <"/proc/${each%%:*}/cgroup"
done 2>/dev/null
"""


class Successor:
    """Waits for one in our place. `directory`: where supervisors of this instance leave word for each other."""

    def __init__(self, directory: Path, within: timedelta) -> None:
        self._directory, self._within = directory, within
        self._process: subprocess.Popen[bytes] | None = None
        self._waited_for: set[str] = set()
        self._changing = threading.Lock()  # containers are started by threads of their own

    def open(self) -> None:
        """We are the successor of whoever was here.

        Raises:
            OSError: the directory cannot be used.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for word in self._directory.glob("awaited-*"):
            word.unlink(missing_ok=True)

    def add(self, pid: int, id_: str) -> None:
        """A container, and its first process."""
        with self._changing:
            if self._process is None:
                self._process = self._wait()
            self._waited_for.add(f"{pid}:{id_}")
            self._say(f"+{pid}:{id_}")

    def remove(self, pid: int, id_: str) -> None:
        with self._changing:
            self._waited_for.discard(f"{pid}:{id_}")
            if self._waited_for:
                self._say(f"-{pid}:{id_}")
            else:
                self._end()

    def close(self) -> None:
        """Nothing is left that anybody could take over."""
        with self._changing:
            self._waited_for.clear()
            self._end()

    def _end(self) -> None:
        for word in self._directory.glob("awaited-*"):
            word.unlink(missing_ok=True)
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()  # a moment: without its word it ends at the end of its input
        self._process = None

    def _wait(self) -> subprocess.Popen[bytes]:
        word = self._directory / f"awaited-{os.getpid()}"
        word.touch(mode=0o600)
        seconds = max(int(self._within.total_seconds()), 1)
        return subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, "sh", str(word), str(seconds)],
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
        with contextlib.suppress(BrokenPipeError, ValueError):  # somebody killed it
            os.write(self._process.stdin.fileno(), f"{line}\n".encode())
