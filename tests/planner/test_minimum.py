"""The instances that `min_instances` keeps are the oldest that take tasks."""

from datetime import timedelta

from fleet.planner.minimum import is_kept
from tests.builders import T0, a_resource, an_instance

OLD = an_instance("old", requested_at=T0 - timedelta(hours=2))
YOUNG = an_instance("young", requested_at=T0 - timedelta(hours=1))


def test_without_a_minimum_none_is_kept() -> None:
    assert not is_kept(OLD, a_resource(), (OLD, YOUNG))


def test_the_oldest_is_kept_and_the_others_may_end() -> None:
    one = a_resource(min_instances=1)
    assert is_kept(OLD, one, (YOUNG, OLD))
    assert not is_kept(YOUNG, one, (YOUNG, OLD))


def test_when_the_oldest_drains_the_next_takes_its_place() -> None:
    draining = an_instance("old", requested_at=OLD.requested_at, drain_requested_at=T0)
    assert is_kept(YOUNG, a_resource(min_instances=1), (draining, YOUNG))
