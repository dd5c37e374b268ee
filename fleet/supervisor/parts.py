"""What a supervisor is handed at its start."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent_hooks.gpus import Gpus
from agent_hooks.hooks import Hooks
from agent_hooks.notice import Watch
from agent_hooks.signs import Signs
from fleet.queues.base import Claims
from fleet.supervisor.agents import Agents
from fleet.supervisor.memory import Memory
from fleet.supervisor.processes import Guard
from fleet.supervisor.senses import Senses
from fleet.supervisor.superior import Superior
from fleet.wire import Enrolled


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the loop is made of."""

    enrolled: Enrolled
    centre: Superior
    claims: Claims
    runner: Agents
    guard: Guard
    gpus: Gpus
    hooks: Hooks
    memory: Memory
    senses: Senses
    signs: Signs = field(default_factory=Signs)
    watches: tuple[Watch, ...] = ()  # for the cloud's notices
