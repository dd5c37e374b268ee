"""The GPUs of this machine, as the driver (NVML) sees them, or simulated ones of the same shape.

A machine without a driver, or whose driver is not ready yet, simply has no GPUs: nothing here raises for that.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agent_hooks.nearness import Links, links_between

NVML_LIBRARY = "libnvidia-ml.so.1"
GIB = 1024**3
# A MIG device of GPU 0 has the indices 100, 101, ...; of GPU 1 it is 200, ...: no other device has them, and they stay the
# same whatever becomes of the other GPUs.
MIG_INDICES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU, or one MIG device of a GPU in MIG mode, now. What the driver does not say is None."""

    index: int
    uuid: str
    model: str
    memory_gib: float
    util: float | None = None  # 0..100 per cent
    memory_used_gib: float | None = None
    temperature_c: float | None = None  # of a MIG device: its GPU's, and so is its power
    power_w: float | None = None
    parent: str | None = None  # of a MIG device: the uuid of its GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """What one process holds of one GPU now."""

    gpu: str  # uuid
    pid: int  # as this machine numbers its processes; in a container with numbers of its own it is somebody else's
    memory_gib: float | None  # None: the driver does not tell


class Gpus(Protocol):
    """Where GPUs are read from."""

    def read(self) -> tuple[GpuReading, ...]:
        """All GPUs that answer, by index; one that fell off its bus is missing. Instead of a GPU in MIG mode there are
        its MIG devices. Never raises."""
        ...

    def processes(self) -> tuple[GpuProcess, ...]:
        """Which processes compute on them. Never raises."""
        ...

    def links(self) -> Links:
        """How near GPUs are to each other. It changes with the hardware alone. Never raises."""
        ...


class NvmlGpus:
    """Real ones. The library is opened at the first read that finds it: a machine without it pays nothing."""

    def __init__(self) -> None:
        self._nvml: Any = None

    def read(self) -> tuple[GpuReading, ...]:
        readings = (_read_one(nvml, device) for nvml, device in self._offered())
        return tuple(reading for reading in readings if reading is not None)

    def processes(self) -> tuple[GpuProcess, ...]:
        return tuple(process for nvml, device in self._offered() for process in _processes_of(nvml, device))

    def links(self) -> Links:
        offered = self._offered()
        return links_between(offered[0][0], [(d.uuid, d.handle) for _, d in offered if not d.parent]) if offered else {}

    def _offered(self) -> list[tuple[Any, _Device]]:
        """The library with each device that tasks may be given, of the GPUs that answer."""
        return [(nvml, device) for nvml, index in self.devices() for device in _devices_of(nvml, index)]

    def devices(self) -> list[tuple[Any, int]]:
        """The library with the number of each GPU, in MIG mode or not; none where it does not answer."""
        nvml = self._open()
        if nvml is None:
            return []
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError:
            self._nvml = None  # the driver went away or was replaced: begin anew at the next read
            return []
        return [(nvml, index) for index in range(count)]

    def _open(self) -> Any:
        if self._nvml is not None:
            return self._nvml
        try:
            ctypes.CDLL(NVML_LIBRARY)  # pynvml takes 2 MB: not imported where there is nothing to read
        except OSError:
            return None
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:  # drivers may load minutes after boot
            return None
        self._nvml = pynvml
        return pynvml


@dataclass(frozen=True, slots=True)
class _Device:
    """What tasks may be given: a GPU, or a MIG device."""

    index: int
    uuid: str
    handle: Any
    parent: str | None = None  # uuid
    parent_handle: Any = None


def _devices_of(nvml: Any, index: int) -> list[_Device]:
    """The GPU itself, or, in MIG mode, what it is divided into. Nothing of one that fell off its bus."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError:
        return []
    try:
        is_divided = nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle) if is_divided else 0
    except nvml.NVMLError:  # a model that knows no MIG
        is_divided, most = False, 0
    if not is_divided:
        return [_Device(index, uuid, handle)]
    found = []
    for number in range(most):
        try:
            mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            mig_uuid = _text(nvml.nvmlDeviceGetUUID(mig))
        except nvml.NVMLError:  # numbers need not be without gaps
            continue
        found.append(_Device(MIG_INDICES * (index + 1) + number, mig_uuid, mig, uuid, handle))
    return found


def _read_one(nvml: Any, device: _Device) -> GpuReading | None:
    handle = device.handle
    try:
        model = _text(nvml.nvmlDeviceGetName(handle))
        total, used = _memory(nvml, handle)
    except nvml.NVMLError:
        return None
    util = _optional(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    whole = device.parent_handle or handle
    heat = _optional(nvml, lambda: nvml.nvmlDeviceGetTemperature(whole, nvml.NVML_TEMPERATURE_GPU))
    power = _optional(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(whole) / 1000)
    return GpuReading(
        index=device.index,
        uuid=device.uuid,
        model=model,
        memory_gib=total / GIB,
        util=util,
        memory_used_gib=used / GIB,
        temperature_c=heat,
        power_w=power,
        parent=device.parent,
    )


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    """Total and used, in bytes. What the driver keeps for itself is not counted as used, where it tells them apart.

    Raises:
        NVMLError: it does not answer at all.
    """
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError:  # drivers before 510
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return memory.total, memory.used


def _processes_of(nvml: Any, device: _Device) -> list[GpuProcess]:
    try:
        found = nvml.nvmlDeviceGetComputeRunningProcesses(device.handle)
    except nvml.NVMLError:
        return []
    return [
        GpuProcess(gpu=device.uuid, pid=p.pid, memory_gib=None if p.usedGpuMemory is None else p.usedGpuMemory / GIB)
        for p in found
    ]


def _optional(nvml: Any, ask: Any) -> float | None:
    """What some models and MIG mode do not tell."""
    try:
        return float(ask())
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class SimulatedGpus:
    """GPUs that do not exist, for demonstrations and tests of everything around them."""

    def __init__(self, readings: tuple[GpuReading, ...]) -> None:
        self._readings = readings

    def read(self) -> tuple[GpuReading, ...]:
        return self._readings

    def processes(self) -> tuple[GpuProcess, ...]:
        return ()  # nothing computes on what does not exist

    def links(self) -> Links:
        return {}


def simulated(spec: str, owner: str = "") -> SimulatedGpus:
    """Read `spec`: a JSON list of `{"model", "memory_gib", "uuid"}`, or `{"count", "model", "memory_gib"}`.

    `owner` makes the uuids of two machines' GPUs differ where the spec does not give them.

    Raises:
        ValueError: the text is not such a spec; says what was expected.
    """
    try:
        data = json.loads(spec)
        if isinstance(data, Mapping):
            data = [{k: v for k, v in data.items() if k != "count"}] * int(data.get("count", 1))
        readings = tuple(_simulated_one(index, item, owner) for index, item in enumerate(data))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        expected = '[{"model": "A10", "memory_gib": 24}, ...] or {"count": 4, "model": "A10", "memory_gib": 24}'
        raise ValueError(f"simulated GPUs: cannot read {spec!r}; write {expected}") from error
    return SimulatedGpus(readings)


def _simulated_one(index: int, item: Mapping[str, Any], owner: str) -> GpuReading:
    return GpuReading(
        index=int(item.get("index", index)),
        uuid=str(item.get("uuid") or "-".join(filter(None, ("GPU-sim", owner, str(index))))),
        model=str(item.get("model", "Simulated GPU")),
        memory_gib=float(item.get("memory_gib", 24)),
        util=0.0,
        memory_used_gib=0.0,
    )
