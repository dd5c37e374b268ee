"""How near the GPUs of this machine are to each other, as the driver (NVML) tells it.

    NVLINK  joined by NVLink, directly or by a switch     NODE    on the same NUMA node
    SWITCH  behind the same PCIe switches                 SYSTEM  on different NUMA nodes; also where nobody tells
Source: NVIDIA's NVML API reference, nvmlDeviceGetP2PStatus and nvmlGpuTopologyLevel_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import combinations
from typing import Any


class Nearness(IntEnum):
    """Between two GPUs; less is nearer."""

    NVLINK = 0
    SWITCH = 1
    NODE = 2
    SYSTEM = 3


Links = dict[frozenset[str], int]  # uuids of two GPUs -> Nearness


def links_between(nvml: Any, handles: Sequence[tuple[str, Any]]) -> Links:
    """Of all these GPUs (uuid and handle), two by two. Pairs of which the driver tells nothing are missing."""
    found: Links = {}
    for (one, first), (other, second) in combinations(handles, 2):
        near = _between(nvml, first, second)
        if near is not None:
            found[frozenset((one, other))] = near
    return found


def _between(nvml: Any, first: Any, second: Any) -> Nearness | None:
    try:
        status = nvml.nvmlDeviceGetP2PStatus(first, second, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
        if status == nvml.NVML_P2P_STATUS_OK:
            return Nearness.NVLINK
    except nvml.NVMLError:
        pass  # GPUs without NVLink may say so with an error
    try:
        level = nvml.nvmlDeviceGetTopologyCommonAncestor(first, second)
    except nvml.NVMLError:
        return None  # some virtual machines hide it
    if level <= nvml.NVML_TOPOLOGY_MULTIPLE:
        return Nearness.SWITCH
    return Nearness.NODE if level <= nvml.NVML_TOPOLOGY_NODE else Nearness.SYSTEM
