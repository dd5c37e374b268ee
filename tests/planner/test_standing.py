"""Which tasks belong on which machines: a large machine leaves small tasks to smaller ones, as long as those can be had."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleet.model import Backoff, Budget, Instance, Launch, Plan, Snapshot, Standing
from fleet.planner.plan import plan
from tests.builders import BECAUSE, T0, a_resource, a_snapshot, a_task, an_instance, an_offer, tasks

OFFERS = tuple(an_offer(gpus=gpus, usd=float(gpus)) for gpus in (1, 8))
SMALL = Backoff(type="fake-1gpu", until=T0 + timedelta(minutes=5), reason=BECAUSE)


def a_large_one(**changes: Any) -> Instance:
    base = an_instance("large", offer=OFFERS[1], gpus=8, idle_since=T0)
    return replace(base, enrolled_at=T0 - timedelta(hours=1), **changes)


def a_world(**changes: Any) -> Snapshot:
    return replace(a_snapshot(tasks=tasks(1), offers=OFFERS, instances=(a_large_one(),)), **changes)


def launched(made: Plan) -> list[str]:
    return [a.offer.type for a in made.actions if isinstance(a, Launch)]


def goes_to(made: Plan) -> list[str | None]:
    return [w.instance for w in made.waiting]


def levels(made: Plan) -> dict[str, tuple[tuple[str, float], ...]]:
    return {name: standing.above_gpus for name, standing in made.standings}


def told(world: Snapshot, made: Plan) -> Snapshot:
    """The same world, when machines have been told what this plan says."""
    said = dict(made.standings)
    there = tuple(replace(i, standing=said.get(i.id, i.standing)) for i in world.instances)
    return replace(world, instances=there)


def test_an_idle_large_machine_leaves_a_small_task_to_a_smaller_one_that_is_launched() -> None:
    made = plan(a_world())
    assert launched(made) == ["fake-1gpu"]
    assert levels(made) == {"large": (("train", 1.0),)}


def test_what_was_told_once_is_not_told_again() -> None:
    world = a_world()
    assert plan(told(world, plan(world))).standings == ()


def test_a_task_that_needs_a_large_machine_takes_it() -> None:
    made = plan(a_world(tasks=tasks(1, gpus=8)))
    assert (launched(made), goes_to(made)) == ([], ["large"])


@pytest.mark.parametrize("wish", [{"gpu_type": "a100"}, {"gpu_memory_gib": 20.0}])
def test_a_task_with_wishes_of_its_own_is_never_refused(wish: dict[str, Any]) -> None:
    made = plan(a_world(tasks=(a_task(**wish),)))
    assert (launched(made), goes_to(made)) == ([], ["large"])


@pytest.mark.parametrize(
    "limit",
    [
        {"backoffs": (SMALL,)},
        {"budget": Budget(max_instances=1)},
        {"resources": (a_resource(max_instances=1),)},
        {"budget": Budget(usd_per_hour=8.5)},
        {"tasks": tasks(1, user="ann"), "budget": Budget(per_user=Budget(usd_per_hour=0.5))},
    ],
)
def test_where_no_small_machine_can_be_had_the_large_one_takes_the_task_at_once(limit: dict[str, Any]) -> None:
    before = a_world()
    world = replace(told(before, plan(before)), **limit)
    made = plan(world)
    assert (launched(made), goes_to(made)) == ([], ["large"])
    assert levels(made) == {"large": ()}, "its supervisor hears it, too"
    assert plan(told(world, made)).standings == ()


def test_a_limit_that_is_reached_within_a_plan_sends_the_rest_to_the_large_machine() -> None:
    made = plan(a_world(tasks=tasks(3), budget=Budget(max_instances=2)))
    assert launched(made) == ["fake-1gpu"]
    assert goes_to(made) == ["p1-0", "large", "large"]
    assert made.standings == ()


def test_a_task_that_no_machine_can_hold_changes_nothing_for_the_others() -> None:
    made = plan(a_world(tasks=(a_task("huge", gpus=64), *tasks(1))))
    assert launched(made) == ["fake-1gpu"]
    assert levels(made) == {"large": (("train", 1.0),)}


def test_a_machine_that_a_minimum_keeps_takes_all_because_it_costs_the_same_anyhow() -> None:
    made = plan(a_world(resources=(a_resource(min_instances=1),)))
    assert (launched(made), goes_to(made), made.standings) == ([], ["large"], ())


def test_a_new_machine_takes_whom_it_was_launched_for_until_it_has_settled() -> None:
    cheap = (OFFERS[0], an_offer(gpus=8, usd=4.0))
    world = a_world(tasks=tasks(8), offers=cheap, instances=())
    (launch,) = [a for a in plan(world).actions if isinstance(a, Launch)]
    assert (launch.offer.gpus, launch.standing.above_gpus, len(launch.tasks)) == (8, (), 8)
    boots = an_instance("new", gpus=8, offer=cheap[1], ready=False, standing=launch.standing)
    for at in (None, T0 - timedelta(seconds=30)):
        made = plan(replace(world, instances=(replace(boots, enrolled_at=at, gpus=a_large_one().gpus if at else ()),)))
        assert (launched(made), set(goes_to(made))) == ([], {"new"})
    settled = replace(boots, enrolled_at=T0 - timedelta(minutes=3), gpus=a_large_one().gpus)
    made = plan(replace(world, tasks=tasks(1), instances=(settled,)))
    assert (launched(made), levels(made)) == (["fake-1gpu"], {"new": (("train", 1.0),)})


def test_with_one_kind_of_machine_nobody_is_told_anything() -> None:
    assert plan(a_world(offers=OFFERS[1:])).standings == ()


def test_a_machine_that_is_ending_is_told_nothing() -> None:
    ending = a_large_one(drain_requested_at=T0, standing=Standing(above_gpus=(("train", 1.0),)))
    assert plan(a_world(instances=(ending,), tasks=(), backoffs=(SMALL,))).standings == ()


def test_a_large_machine_is_told_once_which_smaller_and_cheaper_ones_go_first() -> None:
    made = plan(a_world(instances=(), tasks=tasks(1, gpus=8)))
    (launch,) = (a for a in made.actions if isinstance(a, Launch))
    assert (launch.offer.gpus, launch.standing.smaller) == (8, (("train", (1,)),))
    told_then = a_large_one(standing=replace(launch.standing, meant_for=()))
    said = dict(plan(a_world(instances=(told_then,))).standings)
    assert (said["large"].above_gpus, said["large"].smaller) == ((("train", 1.0),), (("train", (1,)),))


def test_nobody_goes_first_who_is_as_dear() -> None:
    dear = (an_offer(gpus=1, usd=8.0), OFFERS[1])
    (launch,) = (
        a for a in plan(a_world(instances=(), tasks=tasks(1, gpus=8), offers=dear)).actions if isinstance(a, Launch)
    )
    assert (launch.offer.gpus, launch.standing.smaller) == (8, ())
