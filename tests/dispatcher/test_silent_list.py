"""A cloud that does not list its machines for long: what runs goes on, what waits is launched once, what ends is ended when it can be seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fleet.errors import UnknownProviderFault
from fleet.model import Budget, InstanceState
from tests.builders import a_resource
from tests.dispatcher.world import World

TEN_MINUTES_S = 600


def a_silent_world(budget: Budget | None = None) -> World:
    resource = a_resource(boot_timeout=timedelta(minutes=15))
    return World(resources=(resource,), budget=budget or Budget())


def silent(world: World, seconds: int) -> None:
    """Passes, each with a list that fails; machines that enrolled say that they are well."""
    for _ in range(0, seconds, 5):
        world.cloud.next_list_faults.append(UnknownProviderFault("the list hangs"))
        for instance in world.instances():
            if instance.enrolled_at and not instance.goodbye_at:
                world.beat(instance, instance.allocations)
        world.after(5).pass_once()
        assert not world.cloud.next_list_faults


def test_machines_boot_and_work_while_nobody_can_list_them() -> None:
    world = a_silent_world()
    (first,) = world.enqueue("first")
    world.cloud.next_list_faults.append(UnknownProviderFault("the list hangs"))
    world.pass_once()
    silent(world, TEN_MINUTES_S // 2)
    instance = world.enroll(world.instance())
    world.run(instance, first)
    silent(world, TEN_MINUTES_S // 2)
    assert world.instance().state is InstanceState.BUSY
    assert len(world.cloud.machines) == 1
    assert world.cloud.terminate_calls == []
    view = world.store.view()
    assert view
    assert [a.code for a in view.alerts] == ["provider_silent"]


def test_an_unanswered_launch_is_repeated_and_stays_one_machine_while_nobody_can_list_it() -> None:
    world = a_silent_world()
    world.enqueue("first")
    world.cloud.next_launch_faults.extend([UnknownProviderFault("no answer")] * 3)
    silent(world, TEN_MINUTES_S)
    assert len(world.cloud.machines) == 1
    assert [i.cloud_id for i in world.instances()] == list(world.cloud.machines)


def test_what_ended_counts_until_the_list_says_so_and_its_task_comes_back_once() -> None:
    """It may run and cost as long as nobody can say that it does not: the budget waits, and no task runs twice."""
    world = a_silent_world(Budget(max_instances=1))
    (task,) = world.enqueue("first")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.run(instance, task)
    world.cloud.end(f"fake-{instance.id}")  # the cloud took it, without a word
    for _ in range(0, TEN_MINUTES_S, 5):
        world.cloud.next_list_faults.append(UnknownProviderFault("the list hangs"))
        world.after(5).pass_once()
    assert world.instance().state is InstanceState.TERMINATING  # not heard of for long
    assert len(world.cloud.machines) == 1
    assert world.server.waiting(world.queues) == ()
    world.after(5).pass_once()
    assert [i.gone_at for i in world.instances() if i.id == instance.id] == []
    world.after(20).pass_once()
    assert [r.task for r in world.store.runs(task=task)] == [task]
    assert len(world.cloud.machines) == 2


def test_a_machine_that_said_goodbye_is_ended_by_order_although_nobody_sees_it() -> None:
    world = a_silent_world()
    world.enqueue("first")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.server.delete(world.server.waiting(world.queues)[0].id)
    world.beat(instance, is_ending=True)
    silent(world, TEN_MINUTES_S)
    assert {c for call in world.cloud.terminate_calls for c in call} == {f"fake-{instance.id}"}
    assert world.cloud.machines[f"fake-{instance.id}"].ended_at
    world.after(5).pass_once()
    assert world.instances() == ()
    assert len(world.cloud.machines) == 1


def test_a_machine_that_a_broken_list_once_showed_as_nobodys_is_not_ended_at_the_next_one() -> None:
    """The tag was missing in one answer, and again much later: each time it is an orphan that was just found."""
    world = a_silent_world()
    (task,) = world.enqueue("first")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.run(instance, task)
    fake = world.cloud.machines[f"fake-{instance.id}"]
    told = fake.machine
    for _ in range(2):
        fake.machine = replace(told, instance="of no intent")
        world.after(5)
        world.beat(instance, world.instance().allocations)
        world.pass_once()
        fake.machine = told
        for _ in range(30):
            world.after(5)
            world.beat(instance, world.instance().allocations)
            world.pass_once()
    assert world.kinds().count("instance.orphan") == 2
    assert world.cloud.terminate_calls == []
