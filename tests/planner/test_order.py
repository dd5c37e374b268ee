"""`queues.*.order`: which of a queue's resources is launched first."""

from __future__ import annotations

from fleet.model import Launch, Preference
from fleet.planner.plan import plan
from tests.builders import a_queue, a_resource, a_snapshot, a_task, an_offer

OFFERS = (
    an_offer("first", 4, 4.0, gpu_model="A100"),
    an_offer("second", 4, 3.0, gpu_model="A100"),
    an_offer("third", 4, 1.0, gpu_model="T4"),
)


def launched(order: Preference, gpus: float = 4) -> str:
    world = a_snapshot(
        tasks=(a_task(gpus=gpus),),
        queues=(a_queue(resources=("first", "second", "third"), order=order),),
        resources=tuple(a_resource(name) for name in ("first", "second", "third")),
        offers=OFFERS,
    )
    (made,) = [a for a in plan(world).actions if isinstance(a, Launch)]
    return made.offer.resource


def test_by_price_among_those_with_the_same_gpus_and_else_as_listed() -> None:
    assert launched(Preference.AUTO) == "second"


def test_as_the_fleet_file_lists_them() -> None:
    assert launched(Preference.LISTED) == "first"


def test_whatever_costs_least() -> None:
    assert launched(Preference.PRICE) == "third"


def test_auto_is_what_holds_unless_the_fleet_file_says_otherwise() -> None:
    assert a_queue().order is Preference.AUTO
