"""A gang gets all its instances or none, in one zone if it asks for that."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.model import Allocation, Backoff, Budget, Hold, Instance, Launch, Plan, Snapshot, Task
from fleet.planner.gangs import CLAIM_GRACE, HEARD_AFTER, NODES_WITHIN
from fleet.planner.plan import plan
from tests.builders import BECAUSE, T0, a_queue, a_resource, a_snapshot, a_task, an_instance, an_offer


def launches(world: Snapshot) -> list[Launch]:
    return [a for a in plan(world).actions if isinstance(a, Launch)]


LONG_AGO = T0 - timedelta(minutes=1)
GANG = a_task("gang", gpus=4, instances=3)


def free(*names: str, zone: str | None = None) -> tuple[Instance, ...]:
    offer = an_offer(zone=zone)
    return tuple(an_instance(name, offer=offer) for name in names)


def held_for(task: str, *names: str, since: Any = LONG_AGO, lead: str | None = None) -> tuple[Hold, ...]:
    base = Hold(task=task, instance="", since=since, is_first=True, gang_gpus=4)
    return tuple(replace(base, instance=name, may_start=name == lead) for name in names)


def world(*tasks: Task, **changes: Any) -> Snapshot:
    return a_snapshot(tasks=tasks, **changes)


def held(made: Plan) -> list[tuple[str, str, bool]]:
    return [(h.task, h.instance, h.may_start) for h in made.turns.holds]


def running(instance: Instance, task: str, **changes: Any) -> Instance:
    uuids = tuple(gpu.uuid for gpu in instance.gpus)
    allocation = Allocation(task=task, queue="train", worker="w", gpus=uuids, started_at=T0, **changes)
    return replace(instance, allocations=(allocation,))


def test_machines_for_all_its_nodes_are_launched_in_one_plan() -> None:
    made = plan(world(GANG))
    assert [(m.offer.gpus, m.tasks) for m in launches(world(GANG))] == [(4, ("gang",))] * 3
    assert [w.reason.code for w in made.waiting] == ["gang"]


def test_those_that_are_there_are_used() -> None:
    assert len(launches(world(GANG, instances=free("a", "b")))) == 1


def test_where_a_limit_forbids_one_of_them_none_is_launched() -> None:
    for limits in ({"budget": Budget(max_instances=2)}, {"budget": Budget(usd_per_hour=5.0)}):
        refused = world(GANG, **limits)
        assert launches(refused) == []
        text = plan(refused).waiting[0].reason.text
        assert text.startswith(
            "it needs 3 instances at once: 0 of 3 have room now, and the others may not be launched: "
        )
        assert plan(refused).turns.holds == ()


def test_where_no_machine_can_ever_hold_a_node_that_is_said_as_of_any_other_task() -> None:
    for wide in (replace(GANG, need=a_task(gpus=8).need), replace(GANG, need=a_task(gpus=8).need, is_one_zone=True)):
        (waiting,) = plan(world(wide)).waiting
        assert (waiting.reason.code, waiting.reason.text) == (
            "no_fit",
            "each of its 3 instances needs 8 GPUs; the largest of its resources (gpu) has 4",
        )
    (waiting,) = plan(world(GANG, offers=())).waiting
    assert (waiting.reason.code, waiting.reason.text) == (
        "no_offer",
        "none of its resources (gpu) has an offer now",
    )


def test_what_no_gang_takes_is_left_to_others() -> None:
    small = a_task("small", position=1)
    made = plan(world(GANG, small, instances=free("a"), budget=Budget(max_instances=2)))
    assert [(w.task, w.instance) for w in made.waiting] == [("gang", None), ("small", "a")]


def test_its_nodes_are_on_different_machines() -> None:
    pair = a_task("gang", gpus=2, instances=2)
    assert len(launches(world(pair, instances=free("a")))) == 1


def test_in_one_zone_means_in_one_zone() -> None:
    there = (*free("a1", zone="a"), *free("b1", "b2", zone="b"))
    offers = (an_offer(zone="a"), an_offer(zone="b"))
    anywhere = world(GANG, instances=there, offers=offers)
    assert [h[1] for h in held(plan(anywhere))] == ["a1", "b1", "b2"]
    one_zone = world(replace(GANG, is_one_zone=True), instances=there, offers=offers)
    assert [m.offer.zone for m in launches(one_zone)] == ["b"]
    assert [h[1] for h in held(plan(one_zone))] == ["b1", "b2", "p1-0"]


def test_regions_without_zones_are_not_one_zone_and_neither_are_zones_of_two_clouds() -> None:
    gang = replace(GANG, instances=2, is_one_zone=True)
    north, south = an_offer(region="north"), an_offer(region="south", usd=3.0)
    there = (an_instance("n", offer=north), an_instance("s", offer=south))
    made = world(gang, instances=there, offers=(north, south))
    assert [m.offer.region for m in launches(made)] == ["north"]
    assert [h[1] for h in held(plan(made))] == ["n", "p1-0"]
    other = (an_instance("x", offer=an_offer(zone="a")), an_instance("y", offer=an_offer(zone="a", provider="other")))
    assert len(launches(world(gang, instances=other, offers=(an_offer(zone="a"),)))) == 1


def test_a_zone_that_is_paused_is_left_for_one_that_is_not() -> None:
    pause = Backoff(resource="gpu", zone="a", until=T0 + timedelta(hours=1), reason=BECAUSE)
    paused = world(replace(GANG, is_one_zone=True), offers=(an_offer(zone="a"), an_offer(zone="b")), backoffs=(pause,))
    assert [m.offer.zone for m in launches(paused)] == ["b", "b", "b"]


def test_machines_are_first_held_and_start_it_when_all_have_heard_of_it() -> None:
    machines = free("a", "b", "c")
    first = plan(world(GANG, instances=machines))
    assert held(first) == [("gang", "a", False), ("gang", "b", False), ("gang", "c", False)]
    assert first.wake_at == T0 + HEARD_AFTER
    heard = [replace(i, heartbeat_at=T0 + HEARD_AFTER) for i in machines]
    later = world(GANG, instances=tuple(heard), holds=first.turns.holds, at=T0 + HEARD_AFTER)
    assert held(plan(later)) == [("gang", "a", True), ("gang", "b", False), ("gang", "c", False)]
    deaf = replace(later, instances=(*heard[:2], machines[2]))
    assert not any(may_start for _, _, may_start in held(plan(deaf)))


def test_one_that_boots_keeps_the_gang_waiting_and_the_others_held() -> None:
    machines = (*free("a", "b"), an_instance("c", ready=False))
    made = plan(world(GANG, instances=machines, holds=held_for("gang", "a", "b", "c")))
    assert not any(may_start for _, _, may_start in held(made))
    assert made.waiting[0].reason.text == "it needs 3 instances at once: 2 of 3 are there, the others come"


def test_nobody_ahead_is_sent_to_machines_that_are_held_for_a_gang() -> None:
    urgent = a_task("urgent", queue="fast")
    queues = (a_queue(), a_queue("fast", priority=1))
    holds = held_for("gang", "a", "b", "c")
    made = plan(
        world(
            GANG,
            urgent,
            instances=free("a", "b", "c"),
            queues=queues,
            holds=holds,
            resources=(a_resource(max_instances=3),),
        )
    )
    assert {w.task: w.instance for w in made.waiting} == {"urgent": None, "gang": "a"}


def test_while_it_is_claimed_and_when_it_runs_its_machines_wait_for_its_nodes() -> None:
    machines = free("a", "b", "c")
    claimed = world(instances=machines, holds=held_for("gang", "a", "b", "c", since=T0, lead="a"))
    assert [h[1] for h in held(plan(claimed))] == ["a", "b", "c"]
    started = replace(claimed, instances=(running(machines[0], "gang"), *machines[1:]))
    assert [h[1] for h in held(plan(started))] == ["b", "c"]
    assert plan(started).turns.gangs == ("gang",)


def test_its_nodes_go_to_its_machines_and_others_do_not() -> None:
    machines = free("a", "b", "c")
    nodes = [a_task(f"n{n}", gpus=4, instances=3, gang="gang", position=n + 1) for n in (1, 2)]
    other = a_task("other", gpus=4)
    started = world(
        other,
        *nodes,
        instances=(running(machines[0], "gang"), *machines[1:]),
        holds=held_for("gang", "a", "b", "c", lead="a"),
        resources=(a_resource(max_instances=3),),
    )
    assert {w.task: w.instance for w in plan(started).waiting} == {"other": None, "n1": "b", "n2": "c"}


def test_a_machine_that_has_its_node_is_held_no_more() -> None:
    a, b, c = free("a", "b", "c")
    machines = (running(a, "gang"), running(b, "node", gang="gang"), c)
    made = plan(world(instances=machines, holds=held_for("gang", "a", "b", "c", lead="a")))
    assert [h[1] for h in held(made)] == ["c"]


def test_machines_do_not_wait_for_nodes_for_ever() -> None:
    a, b, c = free("a", "b", "c")
    holds = held_for("gang", "a", "b", "c", lead="a")
    late = world(instances=(running(a, "gang"), b, c), holds=holds, at=T0 + NODES_WITHIN)
    assert plan(late).turns.holds == ()
    aborted = world(instances=(a, b, c), holds=holds, at=LONG_AGO + CLAIM_GRACE)
    assert plan(aborted).turns.holds == ()


def test_machines_empty_for_a_gang_that_waited_too_long_but_only_where_there_are_enough() -> None:
    starved = replace(GANG, enqueued_at=T0 - timedelta(hours=1))
    for count, expected in ((3, ["i0", "i1", "i2"]), (2, [])):
        machines = tuple(an_instance(f"i{n}", held=2) for n in range(count))
        resources = (a_resource(max_instances=count),)
        full = world(starved, instances=machines, resources=resources, starvation_after=timedelta(minutes=30))
        assert [h[1] for h in held(plan(full))] == expected


@st.composite
def gang_worlds(draw: st.DrawFn) -> Snapshot:
    zones = st.sampled_from(["a", "b"])
    machines = tuple(
        an_instance(f"i{n}", held=draw(st.integers(0, 4)), offer=an_offer(zone=draw(zones)))
        for n in range(draw(st.integers(0, 5)))
    )
    tasks = tuple(
        a_task(
            f"t{n}",
            gpus=draw(st.sampled_from([1, 2, 4])),
            position=n,
            instances=draw(st.sampled_from([1, 1, 2, 3])),
            is_one_zone=draw(st.booleans()),
        )
        for n in range(draw(st.integers(1, 6)))
    )
    budget = Budget(max_instances=len(machines) + draw(st.integers(0, 4)))
    return world(*tasks, instances=machines, offers=(an_offer(zone="a"), an_offer(zone="b")), budget=budget)


@settings(max_examples=100, deadline=None)
@given(gang_worlds())
def test_all_or_none_in_one_zone_and_no_gpu_twice(world: Snapshot) -> None:
    made = plan(world)
    new = launches(world)
    zone = {i.id: i.offer.zone for i in world.instances} | {m.instance: m.offer.zone for m in new}
    room = {i.id: 4 - len(i.allocations) for i in world.instances} | {m.instance: 4 for m in new}
    used: Counter[str] = Counter()
    for task, waiting in zip(sorted(world.tasks, key=lambda t: t.position), made.waiting, strict=True):
        if task.instances == 1:
            places = [waiting.instance] if waiting.instance else []
        else:
            places = [h.instance for h in made.turns.holds if h.task == task.id]
            assert len(places) in (0, task.instances)
            assert len(set(places)) == len(places)
            assert not task.is_one_zone or len({zone[p] for p in places}) <= 1
        for place in places:
            used[place] += int(task.need.at_least)
    assert all(used[place] <= room[place] for place in used)
    assert len(world.instances) + len(new) <= (world.budget.max_instances or 0)
