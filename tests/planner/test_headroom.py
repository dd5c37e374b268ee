"""Headroom: room for so many more tasks of a queue, in task units, after all that waits."""

from __future__ import annotations

from dataclasses import replace

from fleet.model import Budget, GpuNeed, Launch, Plan
from fleet.planner.plan import plan
from tests.builders import T0, a_queue, a_resource, a_snapshot, a_task, an_instance, an_offer, tasks

ROOM_FOR_TWO = a_queue(headroom=2)


def launches(made: Plan) -> list[tuple[str, str]]:
    return [(a.reason.code, a.reason.text) for a in made.actions if isinstance(a, Launch)]


def test_headroom_is_launched_when_nothing_waits() -> None:
    made = plan(a_snapshot(queues=(ROOM_FOR_TWO,)))
    text = "queues.train.headroom=2: room for so many more of its tasks is kept"
    assert launches(made) == [("headroom", text)]


def test_what_is_free_or_coming_serves_and_is_kept() -> None:
    for there in (an_instance(held=2), an_instance(held=0), an_instance(ready=False)):
        made = plan(a_snapshot(queues=(ROOM_FOR_TWO,), instances=(there,)))
        assert (made.actions, made.kept) == ((), {"i1"})


def test_room_that_is_promised_to_a_waiting_task_is_no_headroom() -> None:
    world = a_snapshot(queues=(ROOM_FOR_TWO,), tasks=tasks(3), instances=(an_instance(),))
    made = plan(world)
    assert [w.instance for w in made.waiting] == ["i1"] * 3
    assert [code for code, _ in launches(made)] == ["headroom"]


def test_machines_that_stay_anyway_serve_first_and_the_surplus_may_end() -> None:
    busy, idle = an_instance("z-busy", held=2), an_instance("a-idle")
    assert plan(a_snapshot(queues=(ROOM_FOR_TWO,), instances=(idle, busy))).kept == {"z-busy"}
    warm = a_resource(min_instances=1)
    old = replace(idle, id="z-old", requested_at=T0.replace(hour=1))
    made = plan(a_snapshot(queues=(ROOM_FOR_TWO,), resources=(warm,), instances=(idle, old)))
    assert made.kept == {"z-old"}


def test_a_machine_on_its_way_lets_the_one_that_runs_stay_until_it_is_there() -> None:
    there, coming = an_instance("z"), an_instance("a", ready=False)
    assert plan(a_snapshot(queues=(ROOM_FOR_TWO,), instances=(there, coming))).kept == {"z"}


def test_headroom_of_several_queues_is_counted_once_each() -> None:
    queues = (a_queue(headroom=3), a_queue("other", headroom=3))
    made = plan(a_snapshot(queues=queues, instances=(an_instance(),)))
    assert [text.split(":")[0] for _, text in launches(made)] == ["queues.other.headroom=3"]


def test_headroom_takes_as_many_machines_as_it_needs_and_fills_each() -> None:
    made = plan(a_snapshot(queues=(a_queue(headroom=9),), offers=(an_offer(gpus=4),)))
    assert len(launches(made)) == 3


def test_headroom_exceeds_no_limit_and_says_which() -> None:
    world = a_snapshot(queues=(a_queue(headroom=9),), budget=Budget(max_instances=1))
    made = plan(world)
    assert len(launches(made)) == 1
    assert [note.text for note in made.notes] == [
        "queue train has headroom for 4 of 9 tasks: the fleet has 1 instance, the most that budget.max_instances allows"
    ]


def test_where_a_task_waits_at_a_limit_headroom_is_given_up_for_it() -> None:
    queues = (a_queue(headroom=2), a_queue("big", resources=("large",)))
    world = a_snapshot(
        queues=queues,
        resources=(a_resource(), a_resource("large")),
        offers=(an_offer(), an_offer("large", gpus=8)),
        tasks=(a_task(gpus=8, queue="big"),),
        instances=(an_instance(),),
        budget=Budget(max_instances=1),
    )
    made = plan(world)
    assert (launches(made), made.kept) == ([], frozenset())
    assert [note.text for note in made.notes] == [
        "queue train has headroom for 0 of 2 tasks: tasks wait at budget.max_instances=1, and they come first"
    ]
    assert plan(replace(world, tasks=())).kept == {"i1"}


def test_headroom_is_of_the_gpus_that_the_queues_tasks_want() -> None:
    queue = a_queue(headroom=1, gpu_type="h100|a100", need=GpuNeed(at_least=2, at_most=2))
    offers = (an_offer(gpus=4, gpu_model="T4"), an_offer(gpus=2, gpu_model="NVIDIA H100"))
    (launch,) = plan(a_snapshot(queues=(queue,), offers=offers)).actions
    assert isinstance(launch, Launch)
    assert launch.offer.gpu_model == "NVIDIA H100"


def test_headroom_for_cpu_tasks_is_counted_in_slots() -> None:
    queue = a_queue(headroom=3, slots=2, need=GpuNeed(at_least=0, at_most=0))
    made = plan(a_snapshot(queues=(queue,), offers=(an_offer(gpus=0),)))
    assert len(launches(made)) == 2
