"""The machines of a simulation, and those among them that are looked for: who is idle, who could use what waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from random import Random

from fleet.simulate.machine import Machine
from fleet.simulate.server import Lookouts


class Park(dict[str, Machine]):
    """By name, from launch to end."""

    def __init__(self, spare: Mapping[str, int], lookouts: Lookouts, seed: int) -> None:
        """`spare`: what machines say that is left of them (`World.spare`)."""
        super().__init__()
        self._spare, self._lookouts, self._seed = spare, lookouts, seed
        self._idle: Machine | None = None  # one of those that are

    @property
    def is_any_idle(self) -> bool:
        if self._idle is None or not self._idle.is_idle:  # who was idle often still is
            self._idle = next((self[name] for name in self._spare if self[name].is_idle), None)
        return self._idle is not None

    def look(self, at: datetime) -> None:
        """Supervisors that could use something of what waits look into their queues, in an order that nobody rules."""
        least = self._lookouts.smallest()
        if least is None:
            return
        able = [machine for machine in self._with_at_least(least) if machine.has_use_for]
        if len(able) > 1:  # by time, not by count: a look more or less must not change who is first from then on
            able.sort(key=lambda machine: machine.number)
            Random(f"{self._seed} {at}").shuffle(able)
        for machine in able:
            if machine.has_use_for:
                machine.step()

    def _with_at_least(self, parts: int) -> Iterable[Machine]:
        """Those that have so much left, in parts of a GPU."""
        if not parts:
            return self.values()
        return [self[name] for name, free in self._spare.items() if free >= parts]
