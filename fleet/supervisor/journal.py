"""What this machine holds, on disk: one small file for each allocation, so that a supervisor that was killed can be followed by one
that knows what it left behind.

A file is replaced whole or not at all, so a death in mid-write leaves the state before. The first one is on the disk itself before
the task is claimed; later ones survive our death without that, and a machine that loses its power also loses its tasks' processes.
Source: docs/adr/0026-restart.md
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.errors import WireError
from fleet.model import Gpu, Run, RunResult, Task
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.jobs import Job
from fleet.wire import from_data, to_data

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One allocation. The fields that are set tell how far it has come."""

    key: str  # also the mark of its processes
    instance: str
    task: Task
    gpus: tuple[Gpu, ...]
    worker: str
    claimed_at: datetime
    is_ours: bool = False  # False: the claim was asked for, and not answered yet
    deaths: int = 0  # so many supervisors of this machine died while they held this task, before this attempt
    pid: int | None = None  # of its agent, whose group has the same number
    born: int | None = None  # when that process started, in clock ticks since boot: a number may be given out again
    started_at: datetime | None = None
    announced_at: datetime | None = None  # the server knows that it is in progress
    stop: StopTask | None = None
    ended_at: datetime | None = None  # its processes are gone
    exit_code: int | None = None
    result: RunResult | None = None  # the server knows it; only the dispatcher does not

    @property
    def run(self) -> Run:
        """This attempt, for the ledger."""
        return Run(
            task=self.task.id,
            name=self.task.name,
            instance=self.instance,
            queue=self.task.queue,
            worker=self.worker,
            gpus=tuple(gpu.uuid for gpu in self.gpus),
            enqueued_at=self.task.enqueued_at,
            claimed_at=self.claimed_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            result=self.result,
            exit_code=self.exit_code,
        )


def entry_of(job: Job, instance: str, deaths: int, result: RunResult | None = None) -> Entry:
    """A job as it is now."""
    return Entry(
        key=job.key,
        instance=instance,
        task=job.task,
        gpus=job.gpus,
        worker=job.worker,
        claimed_at=job.claimed_at,
        is_ours=job.is_ours,
        deaths=deaths,
        pid=job.agent.pid if job.agent else None,
        born=born(job.agent.pid) if job.agent and job.exit_code is None else None,
        started_at=job.started_at,
        announced_at=job.announced_at,
        stop=job.stop,
        ended_at=job.ended_at,
        exit_code=job.exit_code,
        result=result,
    )


def born(pid: int) -> int | None:
    """When this process started, in clock ticks since boot; None: there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


class Journal:
    """The entries of one machine. Different keys may be written by different threads.

    A disk that takes no more is told by `fault`: a machine that cannot remember must not take what it could lose.
    """

    def __init__(self, directory: Path) -> None:
        """Raises:
        OSError: the directory cannot be made.
        """
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.fault: str | None = None

    def keep(self, entry: Entry, *, is_first: bool = False) -> bool:
        """Write this state in place of the one before; False: it could not be, and `fault` says why. `is_first`: it is on the
        disk itself when this returns."""
        content = json.dumps(to_data(entry)).encode()
        part, path = self._directory / f"{entry.key}.part", self._path(entry.key)
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                if is_first:
                    os.fsync(file.fileno())
            part.replace(path)
            if is_first:
                self._sync_names()
        except OSError as error:
            self.fault = f"{path} cannot be written: {error.strerror}; free the disk, or replace it"
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return False
        return True

    def forget(self, key: str) -> None:
        """It is settled, and everybody knows. Where a disk does not take that either, the next supervisor finds it settled."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            self.fault = f"{self._path(key)} cannot be deleted: {error.strerror}; mend the disk, or replace it"

    def read(self) -> tuple[Entry, ...]:
        """What a supervisor before us held, oldest first. What cannot be read is told in one line, and put aside."""
        found = []
        for path in sorted(self._directory.glob("*.json"), key=_number):
            try:
                found.append(from_data(Entry, json.loads(path.read_bytes())))
            except (WireError, ValueError, TypeError, OSError) as error:
                aside = path.with_suffix(".unreadable")
                log.error("journal not readable", extra={"file": str(path), "error": str(error), "now": aside.name})
                path.replace(aside)
        for part in self._directory.glob("*.part"):
            part.unlink(missing_ok=True)
        return tuple(found)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.json"

    def _sync_names(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _number(path: Path) -> tuple[int, str]:
    digits = path.stem.lstrip("a")
    return (int(digits) if digits.isdecimal() else 0, path.stem)
