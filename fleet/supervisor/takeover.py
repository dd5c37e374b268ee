"""What a supervisor that was killed left on this machine, at the start of the next one: processes are ended, containers adopted.

Processes die with their supervisor (see `processes`), but one that left its group may be here still. It is found by the marks in
its environment, also when the journal cannot be read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Collection
from datetime import timedelta
from signal import Signals

import psutil

from fleet.supervisor.agents import Agent, Agents, Found
from fleet.supervisor.journal import Entry, born
from fleet.supervisor.memory import Legacy, Memory
from fleet.supervisor.processes import MARK, signal_group
from fleet.supervisor.spool import Spool

log = logging.getLogger(__name__)

WORKER = "CLEARML_WORKER_ID"  # in the environment of every process of a task, beside its mark
DEAD_WITHIN_S = 5.0  # after SIGKILL; one that hangs in a driver takes longer, and nothing can be done about it
# A line is read a moment after the engine has dated it. What was dated just before the last one was read may not have been: rather
# some lines twice than one not at all.
OVERLAP = timedelta(milliseconds=100)
LOOKS = 5  # a process that forks while it is looked for is found by the next look


def take_over(memory: Memory, agents: Agents, worker: str, *, has_rebooted: bool = False) -> None:
    """End or adopt all that was left of the worker names that begin so; what each task came to is told later (`Work.restore`).

    After a reboot nothing is adopted: an engine says of containers that lost their power that they failed.

    To be called between `agents.prepare` and `agents.sweep`, which removes what was not adopted.
    """
    entries = memory.journal.read()
    found = {} if has_rebooted else {each.mark: each for each in agents.found()}
    for entry in entries:
        if (
            entry.pid is not None
            and entry.born is not None
            and entry.born == born(entry.pid)
            and entry.key not in found
        ):
            signal_group(entry.pid, Signals.SIGKILL)
    if left := _end_marked(worker, spared=found):
        log.warning("processes of tasks cannot be ended", extra={"pids": ",".join(map(str, left))})
    memory.legacies = tuple(_legacies(memory, entries, agents, found))
    _forget_other_spools(memory)


def _legacies(memory: Memory, entries: tuple[Entry, ...], agents: Agents, found: dict[str, Found]) -> list[Legacy]:
    legacies = []
    for entry in entries:
        try:
            spool = Spool(memory.spools / entry.key)
        except OSError as error:
            memory.journal.fault = (
                f"{memory.spools / entry.key} cannot be read: {error.strerror}; the dispatcher finds its task"
            )
            log.error("console of a task not readable", extra={"task": entry.task.id, "why": str(error)})
            continue
        agent = _adopted(entry, agents, found.get(entry.key), spool)
        legacies.append(Legacy(entry=entry, spool=spool, agent=agent))
    return legacies


def _adopted(entry: Entry, agents: Agents, found: Found | None, spool: Spool) -> Agent | None:
    """Its agent, if it is of the same task and was not ended already."""
    if (
        found is None
        or not entry.is_ours
        or entry.ended_at
        or (found.task, found.worker) != (entry.task.id, entry.worker)
    ):
        return None
    since = spool.last_at - OVERLAP if spool.last_at else entry.claimed_at
    try:
        agent = agents.adopt(found, since)
    except OSError as error:
        log.warning("agent not adopted", extra={"task": entry.task.id, "why": str(error)})
        return None
    log.info("agent adopted", extra={"task": entry.task.id, "pid": agent.pid, "worker": entry.worker})
    return agent


def _end_marked(worker: str, spared: Collection[str]) -> list[int]:
    """Kill every process of this machine's tasks but those with the spared marks; the pids of those that do not die."""
    for _ in range(LOOKS):
        marked = [process for process in psutil.process_iter() if _is_marked(process, worker, spared)]
        if not marked:
            return []
        for process in marked:
            with contextlib.suppress(psutil.Error):
                log.warning("process of a task ended", extra={"pid": process.pid, "why": "its supervisor was killed"})
                process.kill()
        psutil.wait_procs(marked, timeout=DEAD_WITHIN_S)
    return [process.pid for process in marked if process.is_running()]


def _is_marked(process: psutil.Process, worker: str, spared: Collection[str]) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        environ = process.environ()
        mark = environ.get(MARK)
        return mark is not None and mark not in spared and environ.get(WORKER, "").startswith(f"{worker}:")
    return False


def _forget_other_spools(memory: Memory) -> None:
    known = {legacy.entry.key for legacy in memory.legacies}
    for place in memory.spools.iterdir():
        if place.name not in known:
            shutil.rmtree(place, ignore_errors=True)
