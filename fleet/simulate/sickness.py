"""GPUs that fail: three of four of a machine's, the first ones, so that something of it goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from fleet.model import Gpu

PART = 0.75
XID = "Xid 79: it has fallen off the bus"  # what the driver says then


def failed(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """The same GPUs after it."""
    count = math.ceil(len(gpus) * PART)
    return tuple(replace(gpu, sick=XID) if n < count else gpu for n, gpu in enumerate(gpus))


def working(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    return tuple(gpu for gpu in gpus if gpu.sick is None)


def sick(gpus: tuple[Gpu, ...]) -> Mapping[str, str]:
    """Why, by uuid."""
    return {gpu.uuid: gpu.sick for gpu in gpus if gpu.sick}
