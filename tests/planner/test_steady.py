"""Which machines need not be looked at again: they work, and nothing is wrong with them."""

from dataclasses import replace

import pytest
from hypothesis import given

from fleet.model import Instance, Snapshot
from fleet.planner import steady
from fleet.planner.plan import plan
from fleet.planner.steady import is_steady, unsteady
from tests.builders import T0, an_instance
from tests.planner.test_properties import worlds
from tests.planner.worlds import snapshots

BUSY = an_instance("busy", gpus=2, held=1)


def test_a_machine_that_works_and_is_well_is_steady() -> None:
    assert is_steady(BUSY)
    assert unsteady((BUSY, an_instance("empty"))) == (an_instance("empty"),)


@pytest.mark.parametrize(
    "other",
    [
        replace(BUSY, allocations=()),
        replace(BUSY, enrolled_at=None),
        replace(BUSY, drain_requested_at=T0),
        replace(BUSY, terminate_requested_at=T0),
        replace(BUSY, goodbye_at=T0),
        replace(BUSY, gpus=BUSY.gpus[:1]),
        replace(BUSY, gpus=(BUSY.gpus[0], replace(BUSY.gpus[1], sick="XID 79"))),
        replace(BUSY, allocations=(replace(BUSY.allocations[0], share=0.5),)),
    ],
    ids=["empty", "boots", "drains", "is to end", "ends", "lacks a GPU", "has a sick GPU", "shares a GPU"],
)
def test_one_of_which_a_plan_may_want_something_is_not(other: Instance) -> None:
    assert unsteady((BUSY,)) == ()
    assert unsteady((other,)) == (other,)


def test_machines_that_are_gone_are_forgotten() -> None:
    many = tuple(replace(BUSY, id=f"i-{n}") for n in range(3 * steady.SPARE))
    unsteady(many)
    unsteady(many[:1])
    assert list(steady._steady) == ["i-0"]


@worlds
@given(snapshots())
def test_a_plan_is_the_same_where_every_machine_is_looked_at(world: Snapshot) -> None:
    made = plan(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steady, "is_steady", lambda _: False)
        steady._steady.clear()
        steady._latest.clear()
        assert plan(world) == made
