"""A noun but for some of its fields: as `dataclasses.replace` makes it."""

from dataclasses import FrozenInstanceError, replace
from datetime import timedelta

import pytest

from fleet.model import Standing, altered
from tests.builders import T0, an_instance


def test_it_is_what_replace_makes_and_the_first_stays_as_it_was() -> None:
    first = an_instance(gpus=2)
    before = repr(first)
    standing = Standing(idle_timeout=timedelta(minutes=5))
    made = altered(first, heartbeat_at=T0, standing=standing)
    assert made == replace(first, heartbeat_at=T0, standing=standing) != first
    assert (repr(first), hash(made.standing)) == (before, hash(standing))


def test_it_is_as_frozen_as_the_first() -> None:
    with pytest.raises(FrozenInstanceError):
        altered(an_instance(), heartbeat_at=T0).heartbeat_at = None  # type: ignore[misc]


def test_a_field_that_it_has_not_is_refused() -> None:
    with pytest.raises(AttributeError, match="colour"):
        altered(an_instance(), colour="red")
