"""What is wrong with this machine's GPUs, as their driver (NVML) tells it: asked now and then, and by its Xid events.

A finding is `sick` (nothing should compute on this GPU) or `warn` (people should know). What an event told, and a GPU
that was lost, is remembered until this process ends: after a reset of the GPU start it anew.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from agent_hooks import xids
from agent_hooks.gpus import NvmlGpus

# Reasons for lower clocks that come from outside: too hot, or too little power. The others are ordinary management.
# Source: nvml.h, nvmlClocksEventReasons.
BRAKES = {0x8: "hw_slowdown", 0x40: "hw_thermal", 0x80: "hw_power_brake"}
BRAKE_WORDS = {
    "hw_slowdown": "its clocks are halved by the hardware",
    "hw_thermal": "its clocks are cut because it is too hot; see its fans and the air around it",
    "hw_power_brake": "its clocks are cut by the power supply; see the power of this machine",
}


class Severity(StrEnum):
    SICK = "sick"  # nothing should compute on it
    WARN = "warn"  # people should know


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with one GPU."""

    gpu: str  # uuid
    code: str  # a stable word: "xid_79", "ecc", "lost"
    severity: Severity
    text: str  # the number, and what to do


class Health(Protocol):
    """Whoever knows how the GPUs are. Both calls may come from different threads; neither ever raises."""

    @property
    def has_events(self) -> bool:
        """Whether it is of any use to wait."""
        ...

    def look(self) -> tuple[Finding, ...]:
        """All that is wrong now."""
        ...

    def keep(self, finding: Finding) -> None:
        """Count this too as wrong from now on: the test at boot found it, say, and the driver will not tell of it."""
        ...

    def wait(self, seconds: float) -> Finding | None:
        """The next thing that the driver tells of itself, within so many seconds."""
        ...


class NoHealth:
    """Of GPUs that do not exist, and of machines without a driver: nothing is known to be wrong."""

    has_events: bool = False

    def look(self) -> tuple[Finding, ...]:
        return ()

    def keep(self, finding: Finding) -> None:
        pass

    def wait(self, seconds: float) -> Finding | None:
        time.sleep(seconds)
        return None


class NvmlHealth:
    """Of real GPUs. Asks only what the driver answers at once; no call here touches a program that computes."""

    has_events: bool = True

    def __init__(self, gpus: NvmlGpus, least_driver: str | None = None) -> None:
        """`least_driver`: "550.54"; GPUs under an older driver are out of service."""
        self._gpus = gpus
        self._least_driver = least_driver
        self._lock = threading.Lock()
        self._indices: dict[str, int] = {}  # of all that were ever there
        self._kept: dict[tuple[str, str], Finding] = {}  # what nobody can ask for again
        self._events: _Events | None = None

    def look(self) -> tuple[Finding, ...]:
        devices = self._gpus.devices()
        found: list[Finding] = []
        present: dict[str, int] = {}
        for nvml, index in devices:
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = _text(nvml.nvmlDeviceGetUUID(handle))
            except nvml.NVMLError:
                continue
            present[uuid] = index
            found += _asked(nvml, handle, uuid)
            found += self._of_driver(nvml, uuid)
        with self._lock:
            if devices:  # else the driver as a whole is away, which says nothing of a GPU
                for uuid in self._indices.keys() - present.keys():
                    lost = _lost(uuid, self._indices[uuid])
                    self._kept[uuid, lost.code] = lost
            self._indices.update(present)
            return (*self._kept.values(), *found)

    def wait(self, seconds: float) -> Finding | None:
        if self._events is None:
            self._events = self._listen()
            if self._events is None:
                time.sleep(seconds)  # no driver yet, or one that has no events
                return None
        nvml, events = self._events.nvml, self._events
        try:
            event = nvml.nvmlEventSetWait_v2(events.set, int(1000 * seconds))
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_TIMEOUT:
                self._events = None  # the driver went away: listen anew
                time.sleep(min(seconds, 1.0))
            return None
        uuid = events.uuids.get(_number(event.device))
        if uuid is None or event.eventType != nvml.nvmlEventTypeXidCriticalError:
            return None
        found = of_xid(uuid, int(event.eventData))
        self.keep(found)
        return found

    def keep(self, finding: Finding) -> None:
        with self._lock:
            self._kept[finding.gpu, finding.code] = finding

    def _of_driver(self, nvml: Any, uuid: str) -> Iterator[Finding]:
        if self._least_driver is None:
            return
        version = _asked_for(nvml, lambda: _text(nvml.nvmlSystemGetDriverVersion()))
        if version and _parts(version) < _parts(self._least_driver):
            text = f"the driver is {version}, and at least {self._least_driver} is wanted; bake the image anew"
            yield Finding(gpu=uuid, code="driver", severity=Severity.SICK, text=text)

    def _listen(self) -> _Events | None:
        """Hear of all GPUs that answer now."""
        uuids: dict[int, str] = {}
        made: Any = None
        for nvml, index in self._gpus.devices():
            try:
                made = made or nvml.nvmlEventSetCreate()
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = _text(nvml.nvmlDeviceGetUUID(handle))
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, made)
            except nvml.NVMLError:
                continue  # one that is lost, or that has no events
            uuids[_number(handle)] = uuid
        return _Events(nvml=nvml, set=made, uuids=uuids) if uuids else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    """Where the driver tells its events."""

    nvml: Any
    set: Any
    uuids: Mapping[int, str]  # by handle: a GPU that is lost no longer tells its own


def of_xid(uuid: str, xid: int) -> Finding:
    """What an Xid error makes of a GPU."""
    if xids.is_of_the_gpu(xid):
        text = f"Xid {xid}: {xids.words(xid)}; reset it or replace its machine"
        return Finding(gpu=uuid, code=f"xid_{xid}", severity=Severity.SICK, text=text)
    return Finding(gpu=uuid, code=f"xid_{xid}", severity=Severity.WARN, text=f"Xid {xid}: {xids.words(xid)}")


def _lost(uuid: str, index: int) -> Finding:
    text = (
        f"GPU {index} no longer answers (it has fallen off the bus, or was taken away); restart or replace its machine"
    )
    return Finding(gpu=uuid, code="lost", severity=Severity.SICK, text=text)


def _asked(nvml: Any, handle: Any, uuid: str) -> Iterator[Finding]:
    """What this GPU says of itself. What it does not tell is not held against it."""
    for code, severity, text in (*_memory(nvml, handle), *_brakes(nvml, handle)):
        yield Finding(gpu=uuid, code=code, severity=severity, text=text)


def _memory(nvml: Any, handle: Any) -> Iterator[tuple[str, Severity, str]]:
    kind = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    now = _asked_for(nvml, lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_VOLATILE_ECC))
    ever = _asked_for(nvml, lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_AGGREGATE_ECC))
    if now:
        text = f"{now} uncorrected memory errors (ECC) since its driver was loaded; reset it or replace its machine"
        yield "ecc", Severity.SICK, text
    elif ever:
        yield "ecc_ever", Severity.WARN, f"{ever} uncorrected memory errors (ECC) in its life, none lately"
    if _asked_for(nvml, lambda: nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle)):
        cause = nvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR
        bad = _asked_for(nvml, lambda: len(nvml.nvmlDeviceGetRetiredPages(handle, cause)))
        text = f"bad memory pages are still in use ({bad or 0} were retired for double-bit errors); reset it to retire them"
        yield "pages_pending", Severity.SICK if bad else Severity.WARN, text
    rows = _asked_for(nvml, lambda: nvml.nvmlDeviceGetRemappedRows(handle))
    if rows is None:
        return
    corrected, uncorrected, is_pending, has_failed = rows
    if has_failed:
        text = f"a bad memory row could not be replaced ({corrected + uncorrected} were before); replace the GPU"
        yield "remap_failed", Severity.SICK, text
    elif is_pending:
        text = f"bad memory rows are still in use ({uncorrected} with uncorrected errors); reset it to replace them"
        yield "rows_pending", Severity.SICK if uncorrected else Severity.WARN, text


def _brakes(nvml: Any, handle: Any) -> Iterator[tuple[str, Severity, str]]:
    # The newer name first; drivers before R535 know only the older one.
    reasons = _asked_for(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    if reasons is None:
        reasons = _asked_for(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
    for bit, code in BRAKES.items():
        if reasons & bit:
            yield code, Severity.WARN, BRAKE_WORDS[code]


def _asked_for(nvml: Any, ask: Callable[[], Any]) -> Any:
    """None: this GPU or this driver does not tell."""
    try:
        return ask()
    except nvml.NVMLError:
        return None


def _number(handle: Any) -> int:
    """What makes a handle the same as another: the pointer in it."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _parts(version: str) -> tuple[int, ...]:
    """560.35.03 as numbers, as far as they are some."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
