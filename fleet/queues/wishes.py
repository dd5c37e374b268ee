"""What a task asks for itself: tags and user properties `gpus:2`, `gpus:1-4`, `gpus:0.5`, `gpu_type:a100|h100`,
`gpu_memory:40`.

A property wins over a tag, a tag over its queue's default. A wish that makes no sense is ignored, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.model import GpuNeed, read_gpu_type

MOST_MEMORY_GIB = 4096.0  # of one GPU: more is a typo
WORDS = ("gpus", "gpu_type", "gpu_memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a task takes. `ignored`: one sentence for each wish that could not be read."""

    need: GpuNeed
    gpu_type: str | None = None
    gpu_memory_gib: float | None = None
    ignored: tuple[str, ...] = ()


def wishes(
    default: GpuNeed,
    tags: Iterable[str],
    properties: Mapping[str, str],
    gpu_type: str | None = None,
    gpu_memory_gib: float | None = None,
) -> Wishes:
    """`default`, `gpu_type` and `gpu_memory_gib` are the queue's; `properties` are the task's user properties by name."""
    asked = [(f"tag {tag!r}", *_split(tag)) for tag in tags if _split(tag)[0] in WORDS]
    asked += [
        (f"property {name}={value!r}", name.strip().lower(), value.strip())
        for name, value in properties.items()
        if name.strip().lower() in WORDS
    ]
    need, memory, ignored = default, gpu_memory_gib, []
    for source, word, value in asked:
        try:
            if word == "gpus":
                need = GpuNeed.read(value)
            elif word == "gpu_type":
                gpu_type = read_gpu_type(value)
            else:
                memory = _memory_gib(value)
        except ValueError as error:
            ignored.append(f"{source} is ignored: {error}")
    return Wishes(need=need, gpu_type=gpu_type, gpu_memory_gib=memory, ignored=tuple(ignored))


def _split(tag: str) -> tuple[str, str]:
    word, _, value = tag.partition(":")
    return word.strip().lower(), value.strip()


def _memory_gib(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*(?:g|gb|gib)?", text, re.IGNORECASE)
    if not match or not 0 < float(match[1]) <= MOST_MEMORY_GIB:
        raise ValueError("GPU memory is a number of GiB, as 40")
    return float(match[1])
