"""A machine that the world is about to cut off still says what it has to say."""

from __future__ import annotations

from datetime import timedelta

from fleet.simulate.agenda import after
from fleet.simulate.engine import Simulation
from tests.builders import a_resource
from tests.simulate.nouns import a_fleet, a_setting, jobs


def test_a_goodbye_in_the_minute_before_a_machine_loses_contact_is_heard() -> None:
    simulation = Simulation(a_setting(jobs(1), a_fleet([a_resource(idle_timeout=timedelta(seconds=60))])))

    def warn() -> None:
        (machine,) = simulation._machines.values()
        machine.lose_contact_at(after(880))  # its task ends at 780, and it is idle for a minute

    simulation.agenda.add(after(100), warn)  # the world knows it from the beginning
    outcome = simulation.run()
    (name,) = outcome.truth.lives
    gone = simulation.store.instance(name)
    assert gone
    assert gone.end_reason
    assert (gone.end_reason.code, gone.goodbye_at is not None) == ("idle", True)
