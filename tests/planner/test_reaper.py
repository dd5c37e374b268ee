"""Which machines are ended because they missed a deadline."""

from datetime import timedelta

from fleet.model import Instance, Launch, Resource, Terminate
from fleet.planner.plan import plan
from fleet.planner.reaper import CONTACT_LOST_AFTER, GOODBYE_GRACE
from tests.builders import T0, a_resource, a_snapshot, a_task, an_instance

LONG_AGO = T0 - timedelta(hours=5)


def ended(instance: Instance, resource: Resource | None = None) -> list[str]:
    made = plan(a_snapshot(instances=(instance,), resources=(resource or a_resource(),)))
    return [a.reason.code for a in made.actions if isinstance(a, Terminate)]


def test_a_machine_whose_supervisor_never_enrols_is_ended() -> None:
    assert ended(an_instance(ready=False, launched_at=LONG_AGO)) == ["boot_timeout"]


def test_a_machine_that_boots_within_its_time_is_left_alone() -> None:
    assert ended(an_instance(ready=False)) == []


def test_a_silent_machine_is_ended() -> None:
    silent = an_instance(held=1, heartbeat_at=T0 - CONTACT_LOST_AFTER - timedelta(seconds=1))
    assert ended(silent) == ["lost_contact"]


def test_a_machine_that_missed_one_heartbeat_is_left_alone() -> None:
    assert ended(an_instance(heartbeat_at=T0 - timedelta(seconds=12))) == []


def test_a_machine_that_said_goodbye_and_stays_is_ended() -> None:
    assert ended(an_instance(goodbye_at=T0 - GOODBYE_GRACE - timedelta(seconds=1))) == ["goodbye_overdue"]


def test_a_machine_older_than_its_longest_life_may_drain_and_is_then_ended() -> None:
    old = an_instance(launched_at=LONG_AGO)
    assert ended(old, a_resource(max_lifetime=timedelta(hours=4, minutes=50))) == []
    assert ended(old, a_resource(max_lifetime=timedelta(hours=4))) == ["max_lifetime"]


def test_a_machine_that_was_told_to_end_is_not_told_again() -> None:
    assert ended(an_instance(ready=False, launched_at=LONG_AGO, terminate_requested_at=T0)) == []


def test_a_machine_that_is_being_ended_has_no_room() -> None:
    silent = an_instance(heartbeat_at=T0 - CONTACT_LOST_AFTER - timedelta(seconds=1))
    made = plan(a_snapshot(instances=(silent,), tasks=(a_task(),)))
    assert [type(a) for a in made.actions] == [Terminate, Launch]


def test_silence_while_the_dispatcher_was_down_is_nobodys_fault() -> None:
    silent = an_instance(heartbeat_at=LONG_AGO)
    assert plan(a_snapshot(instances=(silent,), listening_since=T0 - timedelta(seconds=5))).actions == ()
