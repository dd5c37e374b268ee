"""`agent.docker:` of the fleet file: how agents run in containers."""

from __future__ import annotations

import shlex
from enum import StrEnum

from fleet.config.quantities import memory_gib
from fleet.config.section import Section
from fleet.model import ContainerSettings


class Network(StrEnum):
    """Which network a container is in, where its task does not say."""

    HOST = "host"  # the machine's own: as fast, and servers on it can be reached
    BRIDGE = "bridge"
    NONE = "none"


def read_containers(part: Section, base: ContainerSettings, cache: str | None) -> ContainerSettings:
    """What is not said is as in `base`. What is wrong is noted in `part`."""
    settings = ContainerSettings(
        network=part.choice("network", Network, Network(base.network)).value,
        shm_gib=part.positive("shm_size", memory_gib, base.shm_gib),
        arguments=_arguments(part, base.arguments),
        cache=cache or base.cache,
        prune_above=part.read("prune_above", fraction, base.prune_above),
    )
    part.no_more()
    return settings


def fraction(value: object) -> float:
    """Of a disk: `85%` or 0.85.

    Raises:
        ValueError: anything else; the text says what is allowed.
    """
    text = str(value).strip()
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if isinstance(value, bool) or not 0 < found <= 1:
        raise ValueError("expected a part of the disk, as 85%")
    return found


def _arguments(part: Section, default: str) -> str:
    text = part.text("arguments", default)
    try:
        shlex.split(text)
    except ValueError as error:
        part.wrong("arguments", f"cannot be read: {error}; see to the quotes")
    return text
