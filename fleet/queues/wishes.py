"""What a task asks for itself: tags and user properties `gpus:2`, `gpus:1-4`, `gpus:0.5`, `gpu_type:a100|h100`,
`gpu_memory:40`, `instances:4`, `same_zone:true`.

A property wins over a tag, a tag over its queue's default. A wish that makes no sense is ignored, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.model import GpuNeed, read_gpu_type

MOST_MEMORY_GIB = 4096.0  # of one GPU: more is a typo
WORDS = ("gpus", "gpu_type", "gpu_memory", "instances", "same_zone")
MOST_INSTANCES = 1024  # of one gang: more is a typo
MULTI_NODE = "multi_node_instance"  # the system tag of what `Task.launch_multi_node` of the SDK starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a task takes. `ignored`: one sentence for each wish that could not be read."""

    need: GpuNeed
    gpu_type: str | None = None
    gpu_memory_gib: float | None = None
    instances: int = 1
    is_one_zone: bool = False
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
    instances, is_one_zone = 1, False
    for source, word, value in asked:
        try:
            if word == "gpus":
                need = GpuNeed.read(value)
            elif word == "gpu_type":
                gpu_type = read_gpu_type(value)
            elif word == "instances":
                instances = _instances(value)
            elif word == "same_zone":
                is_one_zone = _yes_or_no(value)
            else:
                memory = _memory_gib(value)
        except ValueError as error:
            ignored.append(f"{source} is ignored: {error}")
    return Wishes(
        need=need,
        gpu_type=gpu_type,
        gpu_memory_gib=memory,
        instances=instances,
        is_one_zone=is_one_zone,
        ignored=tuple(ignored),
    )


def gang_of(parent: str, system_tags: Iterable[str]) -> str | None:
    """The task of rank 0 that has started this one as another node of itself, by `Task.launch_multi_node`."""
    return parent if parent and MULTI_NODE in system_tags else None


def _split(tag: str) -> tuple[str, str]:
    word, _, value = tag.partition(":")
    return word.strip().lower(), value.strip()


def _instances(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_INSTANCES:
        raise ValueError(f"a number of instances is a whole one, 1 to {MOST_INSTANCES}")
    return int(text)


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "yes", "1", "false", "no", "0"):
        raise ValueError("it is true or false")
    return text.lower() in ("true", "yes", "1")


def _memory_gib(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*(?:g|gb|gib)?", text, re.IGNORECASE)
    if not match or not 0 < float(match[1]) <= MOST_MEMORY_GIB:
        raise ValueError("GPU memory is a number of GiB, as 40")
    return float(match[1])
