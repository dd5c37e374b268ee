"""What would do as well as an offer that its cloud may choose among others: the same room, for no more money."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.model import Backoff, Launch, Market, Offer, Reason, Snapshot
from fleet.planner.plan import plan
from tests.builders import T0, a_queue, a_resource, a_snapshot, a_task, an_offer


def pool(type: str = "small", zone: str = "a", usd: float | None = 2.0, gpus: int = 1, **changes: Any) -> Offer:
    return an_offer(gpus=gpus, usd=usd, type=type, zone=zone, may_vary=True, **changes)


def others(world: Snapshot) -> list[tuple[str, str | None]]:
    (launch,) = [a for a in plan(world).actions if isinstance(a, Launch)]
    return [(o.type, o.zone) for o in launch.alternatives]


def test_other_zones_and_types_that_hold_the_task_and_cost_no_more_would_do_as_well() -> None:
    offers = (
        pool(usd=2.0),
        pool(zone="b", usd=2.0),
        pool("other", usd=1.9, gpu_model="Fake L4"),
        pool("dear", usd=2.1),
    )
    world = a_snapshot(tasks=(a_task(gpus=1),), offers=offers)
    # The cheapest is ordered, so that nothing else is cheap enough.
    assert others(world) == []
    paused = Backoff(
        resource="gpu",
        type="other",
        zone="a",
        market=Market.ON_DEMAND,
        until=T0.replace(hour=10),
        reason=Reason(code="backoff", text="x"),
    )
    assert others(replace(world, backoffs=(paused,))) == [("small", "b")]
    same = (pool(usd=2.0), pool(zone="b", usd=2.0), pool("other", usd=2.0, gpu_model="Fake L4"))
    assert others(replace(world, offers=same)) == [("small", "b"), ("other", "a")]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (pool("x", gpus=2), "more GPUs are another plan"),
        (pool("x", usd=None), "its price is unknown"),
        (pool("x", usd=2.01), "it costs more than was committed"),
        (pool("x", market=Market.SPOT, usd=2.0), "another market"),
        (replace(pool("x"), may_vary=False), "its cloud may not choose it"),
        (pool("x", gpu_model="Fake L4"), "the task wants an A100"),
        (pool("x", gpu_memory_gib=16.0), "the task wants 40 GiB"),
    ],
)
def test_what_would_not_do_as_well_is_left_out(other: Offer, why: str) -> None:
    task = a_task(gpus=1, gpu_type="a100", gpu_memory_gib=40)
    world = a_snapshot(tasks=(task,), offers=(pool(usd=2.0), other), resources=(a_resource(),))
    (launch,) = [a for a in plan(world).actions if isinstance(a, Launch)]
    if launch.offer.type == "small":
        assert launch.alternatives == (), why


def test_what_does_not_vary_has_no_alternatives() -> None:
    offers = tuple(replace(o, may_vary=False) for o in (pool(), pool(zone="b")))
    assert others(a_snapshot(tasks=(a_task(gpus=1),), offers=offers)) == []


def test_a_machine_that_is_kept_for_nobody_in_particular_is_of_the_same_kind() -> None:
    offers = (pool(), pool("same"), pool("other", gpu_model="Fake L4"))
    world = a_snapshot(offers=offers, resources=(a_resource(min_instances=1),))
    assert others(world) == [("same", "a")]


def test_the_machines_of_a_gang_are_chosen_together() -> None:
    task = a_task(gpus=1, instances=2)
    world = a_snapshot(tasks=(task,), offers=(pool(), pool(zone="b")), queues=(a_queue(),))
    assert [a.alternatives for a in plan(world).actions if isinstance(a, Launch)] == [(), ()]
