"""The GPUs of this machine, as the driver (NVML) sees them, or simulated ones of the same shape.

A machine without a driver, or whose driver is not ready yet, simply has no GPUs: nothing here raises for that.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

NVML_LIBRARY = "libnvidia-ml.so.1"
GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU now. What the driver does not say is None."""

    index: int
    uuid: str
    model: str
    memory_gib: float
    util: float | None = None  # 0..100 per cent
    memory_used_gib: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """What one process holds of one GPU now."""

    gpu: str  # uuid
    pid: int  # as this machine numbers its processes; in a container with numbers of its own it is somebody else's
    memory_gib: float


class Gpus(Protocol):
    """Where GPUs are read from."""

    def read(self) -> tuple[GpuReading, ...]:
        """All GPUs that answer, by index; one that fell off its bus is missing. Never raises."""
        ...

    def processes(self) -> tuple[GpuProcess, ...]:
        """Which processes compute on them, as far as the driver says how much memory they hold. Never raises."""
        ...


class NvmlGpus:
    """Real ones. The library is opened at the first read that finds it: a machine without it pays nothing."""

    def __init__(self) -> None:
        self._nvml: Any = None

    def read(self) -> tuple[GpuReading, ...]:
        readings = (_read_one(nvml, index) for nvml, index in self.devices())
        return tuple(reading for reading in readings if reading is not None)

    def processes(self) -> tuple[GpuProcess, ...]:
        return tuple(process for nvml, index in self.devices() for process in _processes_of(nvml, index))

    def devices(self) -> list[tuple[Any, int]]:
        """The library with each device's number; none where it does not answer."""
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


def _read_one(nvml: Any, index: int) -> GpuReading | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        model = _text(nvml.nvmlDeviceGetName(handle))
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:
        return None
    util = _optional(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    heat = _optional(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    power = _optional(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    return GpuReading(
        index=index,
        uuid=uuid,
        model=model,
        memory_gib=memory.total / GIB,
        util=util,
        memory_used_gib=memory.used / GIB,
        temperature_c=heat,
        power_w=power,
    )


def _processes_of(nvml: Any, index: int) -> list[GpuProcess]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        found = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return []
    return [
        GpuProcess(gpu=uuid, pid=process.pid, memory_gib=process.usedGpuMemory / GIB)
        for process in found
        if process.usedGpuMemory is not None
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
