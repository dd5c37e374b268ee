"""What two plans share that find the same offers: a shortcut, never another plan."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, given, settings

from fleet.model import Plan, Snapshot
from fleet.planner import ground, rooms, said, standing, steady
from fleet.planner.ground import ground_of
from fleet.planner.plan import plan
from tests.builders import a_queue, a_resource, a_snapshot, an_instance, an_offer, tasks
from tests.planner.worlds import snapshots

SNAPSHOT = a_snapshot(offers=(an_offer(gpus=1, usd=1.0), an_offer(gpus=8, usd=8.0)))


def test_plans_that_find_the_same_share_what_follows_from_it() -> None:
    later = replace(SNAPSHOT, at=SNAPSHOT.at + timedelta(seconds=2), tasks=tasks(3), instances=(an_instance(),))
    assert ground_of(later) is ground_of(SNAPSHOT)


def test_another_price_queue_or_resource_is_another_ground() -> None:
    base = ground_of(SNAPSHOT)
    dearer = replace(SNAPSHOT, offers=(an_offer(gpus=1, usd=1.5), *SNAPSHOT.offers[1:]))
    assert ground_of(dearer) is not base
    assert [c.usd for c in ground_of(dearer).choices["gpu"]] == [1.5, 8.0]
    assert ground_of(replace(SNAPSHOT, queues=(a_queue("other"),))) is not base
    assert ground_of(replace(SNAPSHOT, resources=(a_resource(max_instances=1),))) is not base


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(snapshots())
def test_a_plan_is_the_same_after_any_other_plan_of_its_world_and_after_none(world: Snapshot) -> None:
    first = plan_anew(world)
    plan(replace(world, tasks=world.tasks[::2], instances=world.instances[1:]))
    assert plan(world) == first


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(snapshots())
def test_so_it_is_where_every_machine_was_told_its_levels(world: Snapshot) -> None:
    told = dict(plan(world).standings)
    world = replace(world, instances=tuple(replace(i, standing=told.get(i.id, i.standing)) for i in world.instances))
    plan(world)
    # One says something new, all others are as they were.
    later = replace(world, instances=tuple(replace(i) if n == 0 else i for n, i in enumerate(world.instances)))
    made = plan(later)
    assert made == plan_anew(later)


def plan_anew(world: Snapshot) -> Plan:
    """As if there had been none before."""
    for shortcut in (ground._latest, rooms._latest, rooms._full, said._latest, standing._agreed):
        shortcut.clear()
    steady._steady.clear()
    steady._latest.clear()
    return plan(world)
