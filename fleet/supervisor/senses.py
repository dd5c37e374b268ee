"""What this machine is and does now: its GPUs with what is wrong with them, itself, and the textfile that says so.

Its methods may be called by any thread. One thread of its own sleeps in the driver until a GPU tells of an error; it
is there only once there are real GPUs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent_hooks import textfile
from agent_hooks.gpus import GpuReading, Gpus
from agent_hooks.health import Finding, Health, Severity
from agent_hooks.host import Host, HostReading
from fleet.model import Gpu
from fleet.supervisor.stats import gpus_of

log = logging.getLogger(__name__)

LISTEN_S = 600.0


@dataclass(frozen=True, slots=True)
class Sight:
    """All GPUs, each with what is wrong with it; those that were lost too. A higher `number` was seen later."""

    number: int
    gpus: tuple[Gpu, ...]

    def or_later(self, other: Sight) -> Sight:
        """Of two sights, which may be told of in any order, the later one."""
        return max(self, other, key=lambda sight: sight.number)


class Senses:
    """Remembers the GPUs that were there: one that is lost is not forgotten."""

    def __init__(self, gpus: Gpus, health: Health, metrics_file: Path | None = None) -> None:
        self._sensed, self._health, self._metrics_file = gpus, health, metrics_file
        self._host = Host()
        self._lock = threading.Lock()  # one look at a time: what is seen later is known later
        self._count = 0
        self._known: dict[str, Gpu] = {}
        self._told: frozenset[tuple[str, str]] = frozenset()
        self._sick: Mapping[str, str] = {}
        self._listener: threading.Thread | None = None

    def look(self) -> Sight:
        """The GPUs now."""
        return self._look()[0]

    def read(self, tasks: int) -> tuple[Sight, HostReading]:
        """GPUs and machine, also into the textfile; `tasks` that hold something of it."""
        sight, readings, findings = self._look()
        host = self._host.read()
        if self._metrics_file:
            try:
                textfile.write(self._metrics_file, host, readings, findings, tasks)
            except OSError as error:
                log.warning("metrics not written", extra={"file": str(self._metrics_file), "error": str(error)})
        return sight, host

    def why_sick(self, gpus: Sequence[Gpu]) -> str | None:
        """What is wrong with the first sick one of these, as last seen."""
        return next((why for gpu in gpus if (why := self._sick.get(gpu.uuid))), None)

    def listen(self, tell: Callable[[Sight], None]) -> None:
        """From now on tell at once when a GPU fails. Does nothing where there is none, or if it listens already."""
        with self._lock:
            if self._listener is None and self._known and self._health.has_events:
                self._listener = threading.Thread(target=self._hear, args=(tell,), name="health", daemon=True)
                self._listener.start()

    def _hear(self, tell: Callable[[Sight], None]) -> None:
        while True:
            if self._health.wait(LISTEN_S):
                tell(self.look())

    def _look(self) -> tuple[Sight, tuple[GpuReading, ...], tuple[Finding, ...]]:
        with self._lock:
            readings, findings = self._sensed.read(), self._health.look()
            self._tell(findings)
            sick, warned = _texts(findings, Severity.SICK), _texts(findings, Severity.WARN)
            present = {gpu.uuid: _with(gpu, sick, warned) for gpu in gpus_of(readings)}
            lost = {
                uuid: replace(
                    _with(gpu, sick, warned), util=None, memory_used_gib=None, temperature_c=None, power_w=None
                )
                for uuid, gpu in self._known.items()
                if uuid not in present and _of(gpu, sick)
            }
            self._known.update(present)
            every = sorted([*present.values(), *lost.values()], key=lambda gpu: gpu.index)
            self._sick = {gpu.uuid: gpu.sick for gpu in every if gpu.sick}
            self._count += 1
            return Sight(self._count, tuple(every)), readings, findings

    def _tell(self, findings: Sequence[Finding]) -> None:
        """Each once, when it is new."""
        for finding in findings:
            if (finding.gpu, finding.code) not in self._told:
                facts = {"gpu": finding.gpu, "code": finding.code, "severity": finding.severity, "why": finding.text}
                log.warning("GPU finding", extra=facts)
        self._told = frozenset((finding.gpu, finding.code) for finding in findings)


def _texts(findings: Sequence[Finding], severity: Severity) -> dict[str, str]:
    """By GPU: all of one severity."""
    texts: dict[str, list[str]] = {}
    for finding in findings:
        if finding.severity is severity:
            texts.setdefault(finding.gpu, []).append(finding.text)
    return {uuid: "; ".join(each) for uuid, each in texts.items()}


def _with(gpu: Gpu, sick: Mapping[str, str], warned: Mapping[str, str]) -> Gpu:
    return replace(gpu, sick=_of(gpu, sick), warning=_of(gpu, warned))


def _of(gpu: Gpu, texts: Mapping[str, str]) -> str | None:
    """Of a MIG device: what is wrong with its GPU."""
    return texts.get(gpu.uuid) or texts.get(gpu.parent or "")
