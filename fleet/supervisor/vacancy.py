"""Whether the GPUs that a task is about to be given are really free. The driver is asked by a thread that may wait.

Somebody who is logged in may compute on a GPU of ours, and a process may outlive its task: a task that is started there
runs out of memory. So no GPU is claimed for that was not just seen to be free; one that is not is set aside, and looked at
again. Inside a container with process numbers of its own, a process on a shared GPU cannot be told from a neighbour's and
is borne.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from logging import getLogger

import psutil

from agent_hooks.gpus import GpuProcess, GpuReading, Gpus
from agent_hooks.nearness import Links
from fleet.model import AgentSettings, Gpu, Reason
from fleet.supervisor.errands import Report
from fleet.supervisor.events import Looked
from fleet.supervisor.instructions import Claim, Instruction

log = getLogger(__name__)

SEEN_FREE_FOR = timedelta(seconds=2)
# What is left of a task that has just ended is gone in a moment; a stranger is not.
AGAIN_SOON, AGAIN_LATER = timedelta(seconds=1), timedelta(seconds=10)
MOST_NAMED = 3  # processes

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class _Aside:
    why: str
    is_part: bool  # it was looked at for a task on a part of it
    times: int
    again_at: datetime


class Vacancies:
    """What is known of it. Called by the main thread alone."""

    def __init__(
        self, gpus: Gpus, mark_of: Callable[[int], str | None], settings: AgentSettings, now: Now, report: Report
    ) -> None:
        """`mark_of`: the allocation that a process belongs to."""
        self._gpus, self._mark_of, self._free_below_gib = gpus, mark_of, settings.gpu_free_below_gib
        self._now, self._report = now, report
        self._is_looking = False
        self._free_at: dict[tuple[str, bool], datetime] = {}  # by uuid, and whether for a part
        self._given_at: dict[str, datetime] = {}  # by uuid
        self._aside: dict[str, _Aside] = {}
        self._linked: frozenset[str] = frozenset()  # GPUs of which the links are known
        self.links: Links = {}

    def admitted(self, instructions: Iterable[Instruction], now: datetime) -> Iterator[Instruction]:
        """All of these but the claims of GPUs that were not just seen to be free: those are looked at first."""
        unseen: dict[str, bool] = {}
        is_fresh = {key for key, at in self._free_at.items() if now - at <= SEEN_FREE_FOR}
        for instruction in instructions:
            if isinstance(instruction, Claim) and instruction.gpus:
                is_part = instruction.task.need.share is not None
                keys = [(uuid, is_part) for uuid in instruction.gpus]
                if not is_fresh.issuperset(keys):
                    unseen |= dict(keys)
                    continue
                for key in keys:  # what is seen once is good for one turn, in which several may take parts of a GPU
                    self._free_at.pop(key, None)
                    self._given_at[key[0]] = now
            yield instruction
        self._look({**{uuid: aside.is_part for uuid, aside in self._due(now)}, **unseen})

    def on_looked(self, event: Looked, now: datetime) -> None:
        """The answer has come."""
        self._is_looking = False
        self.links, self._linked = event.links, event.linked
        for uuid, is_part in event.asked.items():
            if uuid in self._given_at and event.at < self._given_at[uuid]:  # since then its task may be what was seen
                continue
            why = event.in_use.get(uuid)
            before = self._aside.pop(uuid, None)
            if why is None:
                self._free_at[uuid, is_part] = event.at
                if before and before.times > 1:
                    log.info("GPU free again", extra={"gpu": uuid})
                continue
            times = before.times + 1 if before else 1
            again_at = now + (AGAIN_SOON if times == 1 else AGAIN_LATER)
            self._aside[uuid] = _Aside(why, is_part, times, again_at)
            if times == 2:
                log.warning("GPU set aside", extra={"gpu": uuid, "why": why})

    def marked(self, gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
        """These, each with the reason why it is set aside, if it is."""
        return tuple(self._marked(gpu) for gpu in gpus) if self._aside else tuple(gpus)

    def times(self) -> list[datetime]:
        """When to look again at what is set aside."""
        return [] if self._is_looking else [aside.again_at for aside in self._aside.values()]

    def _marked(self, gpu: Gpu) -> Gpu:
        aside = self._aside.get(gpu.uuid)
        if aside is None or gpu.set_aside:
            return gpu
        text = f"GPU {gpu.index} is set aside: {aside.why}; it is looked at again every {AGAIN_LATER.seconds} s"
        return replace(gpu, set_aside=Reason(code="gpu_in_use", text=text))

    def _due(self, now: datetime) -> list[tuple[str, _Aside]]:
        return [(uuid, aside) for uuid, aside in self._aside.items() if now >= aside.again_at]

    def _look(self, asked: Mapping[str, bool]) -> None:
        if self._is_looking or not asked:
            return
        self._is_looking = True
        links, linked = self.links, self._linked

        def call() -> None:
            at = self._now()
            readings = {reading.uuid: reading for reading in self._gpus.read()}
            processes = self._gpus.processes()
            is_new = not linked.issuperset(readings)
            self._report(
                Looked(
                    at=at,
                    asked=asked,
                    in_use=self._in_use(asked, readings, processes),
                    links=self._gpus.links() if is_new else links,
                    linked=linked.union(readings),
                )
            )

        threading.Thread(target=call, name="vacancy", daemon=True).start()

    def _in_use(
        self, asked: Mapping[str, bool], readings: Mapping[str, GpuReading], processes: Sequence[GpuProcess]
    ) -> dict[str, str]:
        """Why each of those that are not free is not."""
        found = {}
        for uuid, is_part in asked.items():
            pids = [p.pid for p in processes if p.gpu == uuid and (not is_part or self._is_strangers(p.pid))]
            why = _why_in_use(readings.get(uuid), sorted(pids), None if is_part else self._free_below_gib)
            if why:
                found[uuid] = why
        return found

    def _is_strangers(self, pid: int) -> bool:
        return psutil.pid_exists(pid) and self._mark_of(pid) is None


def _why_in_use(reading: GpuReading | None, pids: Sequence[int], free_below_gib: float | None) -> str | None:
    if reading is None:
        return "the driver does not tell of it any more"
    used_gib = reading.memory_used_gib or 0.0
    if pids:
        named = ", ".join(map(str, pids[:MOST_NAMED])) + (" and others" if len(pids) > MOST_NAMED else "")
        return f"processes that are no task's compute on it (pid {named}), {used_gib:.1f} GiB are in use"
    if free_below_gib is not None and used_gib >= free_below_gib:
        return f"{used_gib:.1f} GiB of its memory are in use, of {free_below_gib:g} that a free one may (agent.gpu_free_below)"
    return None
