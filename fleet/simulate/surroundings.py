"""What a machine of the simulation meets: the time, the server, the centre's memory, and what is true whoever was told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from fleet.model import Task
from fleet.simulate.agenda import Agenda
from fleet.simulate.faults import Faults
from fleet.simulate.server import SimulatedServer
from fleet.simulate.truth import Truth
from fleet.store.chronicle import ChronicledStore
from fleet.store.memory import MemoryStore


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The same for all machines of a run."""

    cluster: str
    agenda: Agenda
    server: SimulatedServer
    store: MemoryStore | ChronicledStore
    truth: Truth
    faults: Faults
    duration_of: Callable[[str], timedelta]  # of an undisturbed run of a task from where it is
    is_kept: Callable[[str], bool]  # whether the centre wants this machine to stay, idle or not
    on_start: Callable[[Task], None]  # a task starts
    # By machine that works: what is left of it, as `Jobs.free`; without those that have tasks and nothing left.
    spare: dict[str, int] = field(default_factory=dict)
