"""What the planner decides, as sentences."""

from dataclasses import replace
from datetime import timedelta

from fleet.model import Allocation, Backoff, Budget, Gpu, Instance, Launch, Plan, Quota, Snapshot, Standing
from fleet.planner.plan import plan
from tests.builders import (
    BECAUSE,
    T0,
    a_queue,
    a_resource,
    a_snapshot,
    a_task,
    an_instance,
    an_offer,
    tasks,
)


def launches(snapshot: Snapshot) -> list[Launch]:
    return [a for a in plan(snapshot).actions if isinstance(a, Launch)]


def why(made: Plan, task: str = "t1") -> str:
    (found,) = [w.reason for w in made.waiting if w.task == task]
    return f"{found.code}: {found.text}"


def test_nothing_waits_so_nothing_is_launched() -> None:
    assert plan(a_snapshot()).actions == ()


def test_eight_tasks_of_one_gpu_share_two_machines_of_four() -> None:
    made = launches(a_snapshot(tasks=tasks(8)))
    assert [(m.instance, len(m.tasks)) for m in made] == [("p1-0", 4), ("p1-1", 4)]
    assert made[0].reason.text == "4 tasks wait in queue train and no instance has room for them"


def test_what_is_launched_for_tasks_of_several_queues_names_them() -> None:
    both = (a_task("x", queue="a"), a_task("y", queue="b"))
    (made,) = launches(a_snapshot(queues=(a_queue("a"), a_queue("b")), tasks=both))
    assert made.reason.text == "2 tasks wait in queues a, b and no instance has room for them"
    assert (made.reason.queue, made.tasks) == ("a", ("x", "y"))


def test_free_gpus_are_used_before_anything_is_launched() -> None:
    made = plan(a_snapshot(tasks=tasks(3), instances=(an_instance(held=1),)))
    assert made.actions == ()
    assert {w.instance for w in made.waiting} == {"i1"}


def test_free_mig_devices_are_used_before_a_machine_is_launched_and_it_is_no_larger_than_the_rest_needs() -> None:
    devices = tuple(
        Gpu(index=n, uuid=f"MIG-{n}", model="A100 MIG 1g.5gb", memory_gib=5, parent="GPU") for n in range(7)
    )
    split = replace(an_instance(gpus=1), gpus=devices)
    small, large = an_offer(gpus=1, usd=1.0), an_offer(gpus=8, usd=4.0)
    made = launches(a_snapshot(tasks=tasks(8), instances=(split,), offers=(small, large)))
    assert [m.offer for m in made] == [small]


def test_what_boots_counts_as_coming() -> None:
    assert launches(a_snapshot(tasks=tasks(4), instances=(an_instance(ready=False),))) == []


def test_an_intent_that_the_cloud_has_not_confirmed_counts_as_coming() -> None:
    intent = an_instance(ready=False, launched_at=None, cloud_id=None)
    assert launches(a_snapshot(tasks=tasks(4), instances=(intent,))) == []


def test_room_is_counted_once() -> None:
    made = launches(a_snapshot(tasks=tasks(5), instances=(an_instance(held=0),)))
    assert len(made) == 1
    assert made[0].tasks == ("t00004",)


def test_a_draining_instance_has_no_room() -> None:
    world = a_snapshot(tasks=(a_task(),), instances=(an_instance(drain_requested_at=T0),))
    assert len(launches(world)) == 1


def test_the_full_instance_is_filled_before_the_empty_one() -> None:
    made = plan(a_snapshot(tasks=(a_task(),), instances=(an_instance("empty"), an_instance("busy", held=3))))
    assert [w.instance for w in made.waiting] == ["busy"]


def test_a_large_task_does_not_fit_the_rest_of_a_busy_machine() -> None:
    world = a_snapshot(tasks=(a_task(gpus=2),), instances=(an_instance(held=3),))
    assert len(launches(world)) == 1


def test_the_next_resource_is_used_when_the_first_is_at_its_limit() -> None:
    world = a_snapshot(
        tasks=tasks(12),
        queues=(a_queue(resources=("gpu", "more")),),
        resources=(a_resource(max_instances=1), a_resource("more")),
        offers=(an_offer(), an_offer("more", gpus=8)),
    )
    assert sorted(m.offer.resource for m in launches(world)) == ["gpu", "more"]


def test_at_the_limit_a_task_waits_and_says_which_limit() -> None:
    world = a_snapshot(tasks=(a_task(),), resources=(a_resource(max_instances=1),), instances=(an_instance(held=4),))
    made = plan(world)
    assert made.actions == ()
    assert why(made) == ("max_instances: resource gpu has 1 instance, the most that resources.gpu.max_instances allows")


def test_the_fleets_limit_counts_every_resource() -> None:
    world = a_snapshot(tasks=tasks(8), instances=(an_instance(held=4),), budget=Budget(max_instances=2))
    assert len(launches(world)) == 1


def test_a_queues_own_limit_counts_what_was_launched_for_it() -> None:
    world = a_snapshot(tasks=tasks(12), queues=(a_queue(max_instances=2),))
    assert len(launches(world)) == 2


def test_dollars_an_hour_are_never_exceeded() -> None:
    world = a_snapshot(tasks=tasks(12), budget=Budget(usd_per_hour=4.5))
    made = plan(world)
    assert len(made.actions) == 2
    assert "usd_per_hour: fake-4gpu costs $2.00 an hour; $4.00 of the $4.50" in why(made, "t00011")


def test_an_unknown_price_is_not_free() -> None:
    world = a_snapshot(tasks=(a_task(),), offers=(an_offer(usd=None),), budget=Budget(usd_per_hour=4.5))
    assert why(plan(world)).startswith("price_unknown:")


def test_the_more_urgent_queue_gets_the_last_machine() -> None:
    world = a_snapshot(
        tasks=(a_task("low", queue="train"), a_task("high", queue="rush", gpus=4)),
        queues=(a_queue(), a_queue("rush", priority=10)),
        budget=Budget(max_instances=1),
    )
    (made,) = launches(world)
    assert made.tasks == ("high",)


def test_a_task_that_no_resource_can_hold_says_so_and_launches_nothing() -> None:
    made = plan(a_snapshot(tasks=(a_task(gpus=8),)))
    assert made.actions == ()
    assert why(made) == "no_fit: needs 8 GPUs; the largest of its resources (gpu) has 4"


def test_a_gpu_type_that_no_resource_has_says_so() -> None:
    made = plan(a_snapshot(tasks=(a_task(gpu_type="h100"),)))
    assert why(made) == (
        "no_fit: needs 1 GPU of type h100; "
        "the nearest, fake-4gpu of gpu, has 4 GPUs Fake A100 with 40 GiB: another type"
    )


def test_parts_of_a_gpu_share_it_on_one_machine() -> None:
    made = launches(a_snapshot(tasks=tasks(20, gpus=0.25), offers=(an_offer(gpus=1),)))
    assert [len(m.tasks) for m in made] == [4, 4, 4, 4, 4]


def test_a_part_that_no_gpu_of_its_resources_can_give_says_so() -> None:
    made = plan(a_snapshot(tasks=(a_task(gpus=0.5, gpu_memory_gib=30),)))  # of GPUs of 40 GiB
    assert why(made) == (
        "no_fit: needs 0.5 of a GPU with 30 GiB; "
        "the nearest, fake-4gpu of gpu, has 4 GPUs Fake A100 with 40 GiB: too little memory"
    )
    assert len(launches(a_snapshot(tasks=(a_task(gpus=0.5, gpu_memory_gib=20),)))) == 1


def test_parts_fill_up_gpus_that_are_shared_already_and_leave_the_others_whole() -> None:
    world = a_snapshot(
        tasks=(*tasks(3, gpus=0.5), a_task("whole", 3, position=9)), instances=(sharing(an_instance(), 0.4, 0.5),)
    )
    # The third half takes a GPU that was free: one whole is left there.
    shared, other = "i1", "p1-0"
    assert [w.instance for w in plan(world).waiting] == [shared, shared, shared, other]
    world = replace(world, tasks=(*world.tasks[:1], a_task("whole", 2, position=9)))
    assert [w.instance for w in plan(world).waiting] == [shared, shared]


def test_a_gpu_that_is_shared_is_nothing_for_a_task_of_whole_gpus() -> None:
    world = a_snapshot(tasks=(a_task(),), instances=(sharing(an_instance(gpus=2), 0.1, 0.1),))
    assert [w.instance for w in plan(world).waiting] == ["p1-0"]


def sharing(instance: Instance, *shares: float) -> Instance:
    """With these parts of its GPUs held, each of one more GPU."""
    taken = [
        Allocation(task=f"part{n}", queue="train", worker=f"w{n}", gpus=(gpu.uuid,), started_at=T0, share=share)
        for n, (gpu, share) in enumerate(zip(instance.gpus, shares, strict=False))
    ]
    return replace(instance, allocations=tuple(taken))


def test_an_offer_that_is_backed_off_is_passed_over() -> None:
    pause = Backoff(resource="gpu", zone="a", until=T0 + timedelta(minutes=1), reason=BECAUSE)
    offers = (an_offer(zone="a"), an_offer(zone="b"))
    (made,) = launches(a_snapshot(tasks=(a_task(),), offers=offers, backoffs=(pause,)))
    assert made.offer.zone == "b"


def test_the_minimum_is_kept_without_any_demand() -> None:
    made = launches(a_snapshot(resources=(a_resource(min_instances=2),), instances=(an_instance(),)))
    assert [m.reason.code for m in made] == ["min_instances"]


def test_what_may_not_be_launched_for_the_minimum_is_passed_over_and_a_minimum_that_is_not_kept_says_why() -> None:
    quota = Quota(code="L-1", name="G", cpus=0, others_cpus=0, scope="us", remedy="ask for more")
    cheap, other = an_offer(usd=1.0, type="g5.large", quota=quota), an_offer(usd=1.2, type="p3.large")
    world = a_snapshot(resources=(a_resource(min_instances=1),), offers=(cheap, other))
    assert [m.offer.type for m in launches(world)] == ["p3.large"]
    (note,) = plan(replace(world, offers=(other,), budget=Budget(usd_per_hour=1.0))).notes
    assert note.text.startswith("resource gpu keeps 0 of resources.gpu.min_instances=1: p3.large costs $1.20 an hour; ")
    assert note.limit == "budget.usd_per_hour=1"
    (note,) = plan(replace(world, offers=())).notes
    assert note.text == "resource gpu keeps 0 of resources.gpu.min_instances=1: nothing is on offer"


def test_cpu_tasks_fill_slots_not_gpus() -> None:
    cpu = a_queue("prep", gpus=0, resources=("cpu",), slots=2)
    world = a_snapshot(
        tasks=tasks(3, gpus=0, queue="prep"),
        queues=(cpu,),
        resources=(a_resource("cpu"),),
        offers=(an_offer("cpu", gpus=0),),
    )
    assert [len(m.tasks) for m in launches(world)] == [2, 1]


def test_queues_without_slots_share_one_slot_for_each_cpu() -> None:
    queues = tuple(a_queue(name, gpus=0, resources=("cpu",)) for name in ("prep", "clean"))
    world = a_snapshot(
        tasks=tasks(4, gpus=0, queue="prep") + tuple(a_task(f"c{n}", gpus=0, queue="clean") for n in range(6)),
        queues=queues,
        resources=(a_resource("cpu"),),
        offers=(an_offer("cpu", gpus=0),),  # of eight CPUs
    )
    assert [len(m.tasks) for m in launches(world)] == [8, 2]


def test_the_number_on_the_box_is_enough_memory() -> None:
    world = a_snapshot(tasks=(a_task(gpu_memory_gib=44),))  # of GPUs that report 40
    assert len(launches(world)) == 1
    assert launches(a_snapshot(tasks=(a_task(gpu_memory_gib=48),))) == []


def test_an_enrolled_machine_is_what_it_says_it_is() -> None:
    poorer = an_instance(gpus=4)
    poorer = replace(poorer, gpus=tuple(replace(g, model="Fake T4") for g in poorer.gpus[:2]))
    made = plan(a_snapshot(tasks=(a_task(gpu_type="a100"),), instances=(poorer,)))
    assert [type(a) for a in made.actions] == [Launch]


def test_the_same_snapshot_gives_the_same_plan() -> None:
    world = a_snapshot(tasks=tasks(50), instances=(an_instance(held=2),))
    assert plan(world) == plan(world)


def test_every_waiting_task_has_a_reason() -> None:
    made = plan(a_snapshot(tasks=tasks(50), budget=Budget(max_instances=3)))
    assert len(made.waiting) == 50
    assert all(w.reason.text for w in made.waiting)


def test_room_that_another_class_brings_is_used_by_one_that_was_refused() -> None:
    world = a_snapshot(
        tasks=(a_task("a", gpu_type="t4"), a_task("b", gpus=3, position=1), a_task("c", gpus=2, position=2)),
        resources=(a_resource(max_instances=1),),
    )
    made = plan(world)
    assert [(w.task, w.instance) for w in made.waiting] == [("a", None), ("b", "p1-0"), ("c", None)]
    assert why(made, "c").startswith("max_instances: resource gpu has 1 instance")


def test_a_machine_with_all_gpus_held_still_gives_its_slots() -> None:
    cpu = a_queue("prep", gpus=0, slots=1)
    world = a_snapshot(tasks=tasks(2, gpus=0, queue="prep"), queues=(a_queue(), cpu), instances=(an_instance(held=4),))
    assert [w.instance for w in plan(world).waiting] == ["i1", "p1-0"]


def test_free_gpus_that_a_supervisor_keeps_for_a_large_task_are_promised_to_nobody_behind_it() -> None:
    world = a_snapshot(
        tasks=(a_task("large", gpus=4), a_task("small", position=1)),
        resources=(a_resource(max_instances=1),),
        instances=(an_instance(held=2),),
    )
    made = plan(world)
    assert [w.instance for w in made.waiting] == [None, None]
    assert why(made, "small").endswith("; instance i1's 2 free GPUs are kept for task large, which is ahead")


def test_behind_a_large_task_that_has_to_wait_a_small_one_gets_a_machine_that_is_too_small_for_it() -> None:
    world = a_snapshot(
        tasks=(a_task("large", gpus=4), a_task("small", position=1)),
        queues=(a_queue(resources=("gpu", "one")),),
        resources=(a_resource(max_instances=1), a_resource("one")),
        offers=(an_offer(), an_offer("one", gpus=1)),
        instances=(an_instance(held=2),),
    )
    assert [(m.offer.resource, m.tasks) for m in launches(world)] == [("one", ("small",))]


def test_nothing_is_kept_for_a_task_that_can_never_run_there() -> None:
    for blocked in (a_task("large", gpus=8), a_task("large", gpus=2, gpu_type="h100")):
        made = plan(a_snapshot(tasks=(blocked, a_task("small", position=1)), instances=(an_instance(held=3),)))
        assert [w.instance for w in made.waiting] == [None, "i1"]


def test_a_small_task_ahead_of_a_large_one_takes_what_is_free() -> None:
    world = a_snapshot(
        tasks=(a_task("small"), a_task("large", gpus=4, position=1)),
        resources=(a_resource(max_instances=1),),
        instances=(an_instance(held=2),),
    )
    assert [w.instance for w in plan(world).waiting] == ["i1", None]


def test_what_does_not_fit_is_told_the_nearest_and_all_that_it_lacks() -> None:
    offers = (an_offer(gpus=4, gpu_memory_gib=16.0), an_offer(gpus=2, gpu_model="H100", gpu_memory_gib=16.0))
    task = a_task(gpus=3, gpu_type="h100|h200", gpu_memory_gib=80)
    assert why(plan(a_snapshot(tasks=(task,), offers=offers))) == (
        "no_fit: needs 3 GPUs of type h100 or h200 with 80 GiB each; "
        "the nearest, fake-4gpu of gpu, has 4 GPUs Fake A100 with 16 GiB: another type and too little memory"
    )


def test_of_several_types_any_is_as_good() -> None:
    offers = (an_offer(gpu_model="T4"), an_offer(gpu_model="NVIDIA H100"), an_offer(gpu_model="NVIDIA A100"))
    (launch,) = launches(a_snapshot(tasks=(a_task(gpu_type="a100|h100"),), offers=offers))
    assert launch.offer.gpu_model in ("NVIDIA H100", "NVIDIA A100")


def test_a_task_goes_to_the_machine_that_is_on_its_way_for_it() -> None:
    offers = (an_offer(gpus=2, gpu_model="T4"), an_offer(gpus=1, gpu_model="A100"))
    waiting = (a_task("any"), a_task("picky", gpu_type="a100", position=1))
    coming = tuple(
        an_instance(f"p0-{n}", offer=offer, ready=False, reason=replace(BECAUSE, task=task.id))
        for n, (offer, task) in enumerate(zip(offers, waiting, strict=True))
    )
    made = plan(a_snapshot(tasks=waiting, offers=offers, instances=coming[::-1]))
    assert made.actions == ()
    assert {w.task: w.instance for w in made.waiting} == {"any": "p0-0", "picky": "p0-1"}


def test_who_has_room_elsewhere_takes_no_machine_that_is_on_its_way_for_another() -> None:
    a, b = an_offer("a", gpus=1), an_offer("b", gpus=1)
    boots = an_instance(offer=b, gpus=1, ready=False)
    on_their_way = (
        replace(boots, id="for s2", offer=a, standing=Standing(meant_for=("s2",))),
        replace(boots, id="for t", offer=a, standing=Standing(meant_for=("t",))),
    )
    world = a_snapshot(
        resources=(a_resource("a"), a_resource("b")),
        queues=(a_queue("sweep", 0.5, resources=("a", "b")), a_queue("train", resources=("a",))),
        offers=(a, b),
        instances=(replace(boots, id="nobody's"), *on_their_way),
        tasks=(*(a_task(f"s{n}", 0.5, queue="sweep", position=n) for n in range(3)), a_task("t")),
    )
    assert {w.task: w.instance for w in plan(world).waiting} == {
        "s0": "nobody's",
        "s1": "nobody's",
        "s2": "for s2",
        "t": "for t",
    }
    assert launches(world) == []


def test_what_boots_is_used_in_the_order_of_its_launch() -> None:
    coming = tuple(an_instance(f"p0-{n}", gpus=1, ready=False) for n in (10, 9))
    made = plan(a_snapshot(tasks=tasks(2), instances=coming))
    assert [w.instance for w in made.waiting] == ["p0-9", "p0-10"]
