"""What becomes of each machine: whether it boots, falls silent, is taken back. Drawn at its launch, befalls it in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from fleet.providers.base import LaunchOrder
from fleet.simulate.agenda import Agenda
from fleet.simulate.deadlines import Deadlines
from fleet.simulate.machine import Machine
from fleet.simulate.setting import Setting


class Fates:
    """Makes the appointments of one simulation's machines."""

    def __init__(
        self,
        setting: Setting,
        agenda: Agenda,
        deadlines: Deadlines,
        tell: Callable[[str, str, str | None], None],
        is_there: Callable[[str], bool],
    ) -> None:
        """`tell` hears what befell which machine; `is_there`: whether it has not ended yet."""
        self.faults = setting.faults  # may change while it runs: what is broken is mended
        self._boot_time = setting.boot_time
        self._agenda, self._deadlines = agenda, deadlines
        self._tell, self._is_there = tell, is_there

    def of_launch(self, machine: Machine, order: LaunchOrder, take: Callable[[], None]) -> None:
        """The cloud has started it now; `take` is how it takes it back."""
        at, faults = self._agenda.at, self.faults
        is_dead = faults.has(faults.dead_boots, "dead boot", order.instance)
        boots_in_time = not is_dead and self._boot_time < order.resource.boot_timeout
        self._deadlines.of_launch(order.resource, at, boots_in_time=boots_in_time)
        if is_dead:
            self._tell("dead boot", "it will never enrol", machine.id)
        else:
            self._agenda.add(at + self._boot_time, machine.boot)
        self._plan_silence(machine)
        if (sick_after := faults.wait(faults.gpus_sick_every, "GPUs fail", order.instance)) is not None:
            fail = partial(self._befall, machine, "GPUs sick", machine.lose_gpus)
            self._agenda.add(at + self._boot_time + sick_after, fail)
        life = faults.spot_life_of(order.offer, order.instance, at)
        if life is not None:
            taken_at = at + max(life, faults.notice)
            self._agenda.add(taken_at - faults.notice, partial(machine.take_notice, taken_at))
            self._agenda.add(taken_at, take)

    def _plan_silence(self, machine: Machine) -> None:
        faults = self.faults
        cut = faults.wait(faults.cut_off_every, "cut off", machine.id)
        death = faults.wait(faults.supervisor_life, "supervisor dies", machine.id)
        silences = [wait for wait in (cut, death) if wait is not None]
        if not silences:
            return
        silent_at = self._agenda.at + self._boot_time + min(silences)
        machine.lose_contact_at(silent_at)
        self._deadlines.of_silence(silent_at)
        if min(silences) == cut:
            self._agenda.add(silent_at, partial(self._befall, machine, "cut off", machine.lose_contact))
            back_after = faults.wait(faults.cut_off_for, "cut off for", machine.id) or timedelta(0)
            self._agenda.add(silent_at + back_after, partial(self._befall, machine, "back", machine.find_contact))
        else:
            self._agenda.add(silent_at, partial(self._befall, machine, "supervisor dead", machine.lose_supervisor))

    def _befall(self, machine: Machine, what: str, act: Callable[[], None]) -> None:
        if self._is_there(machine.id):
            self._tell(what, "nobody else knows of it yet", machine.id)
        act()
