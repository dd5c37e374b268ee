"""What a dispatcher does, pass by pass."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from fleet.dispatcher import reconcile
from fleet.dispatcher.loop import Loop
from fleet.dispatcher.reconcile import ORPHAN_GRACE
from fleet.errors import BadRequest, NoCapacity, NotLeading, Throttled, UnknownProviderFault
from fleet.model import Budget, Event, InstanceState, Reason, RunResult, View, Window
from fleet.planner.reaper import CONTACT_LOST_AFTER
from fleet.providers.base import FirstBoot, LaunchOrder, Machine
from fleet.queues.base import TaskStatus
from tests.builders import T0, a_queue, a_resource, an_offer
from tests.dispatcher.world import World


def test_a_waiting_task_brings_a_machine() -> None:
    world = World()
    world.enqueue("one")
    world.pass_once()
    assert world.instance().state is InstanceState.BOOTING
    assert world.kinds() == ["instance.launching", "instance.launched"]


def test_a_second_pass_launches_nothing_more() -> None:
    world = World()
    world.enqueue("one")
    world.pass_once().after(2).pass_once().after(2).pass_once()
    assert len(world.cloud.machines) == 1


def test_a_machine_that_the_cloud_no_longer_lists_is_gone() -> None:
    world = World()
    world.enqueue("one")
    world.pass_once()
    instance = world.instance()
    world.enroll(instance)
    world.server.delete(world.server.waiting(world.queues)[0].id)
    world.beat(instance, is_ending=True)
    world.cloud.end("fake-" + instance.id)
    world.after(2).pass_once()
    assert world.instances() == ()
    assert world.kinds()[-2:] == ["instance.ending", "instance.gone"]


def test_a_machine_that_the_list_does_not_show_yet_is_not_gone() -> None:
    world = World(list_lag=timedelta(seconds=20))
    world.enqueue("one")
    world.pass_once().after(5).pass_once()
    assert len(world.instances()) == 1
    assert len(world.cloud.machines) == 1


def test_a_task_whose_machine_is_lost_goes_back_to_the_head_of_its_queue() -> None:
    world = World()
    (first,) = world.enqueue("first")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.run(instance, first)
    world.enqueue("second")
    world.cloud.end("fake-" + instance.id)
    world.after(20).pass_once()
    assert world.server.waiting(world.queues)[0].id == first
    (run,) = world.store.runs(task=first)
    assert run.result is RunResult.REQUEUED


def test_a_task_that_loses_three_machines_is_given_up() -> None:
    world = World()
    (task,) = world.enqueue("cursed")
    for _ in range(3):
        world.after(20).pass_once()
        instance = world.enroll(world.instance())
        world.run(instance, task)
        world.cloud.end("fake-" + instance.id)
        world.after(20).pass_once()
    assert world.server.states([task])[task].status is TaskStatus.FAILED
    assert "task.given_up" in world.kinds()


def test_a_task_that_its_user_stopped_stays_stopped_when_its_machine_is_lost() -> None:
    world = World()
    (task,) = world.enqueue("one")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.run(instance, task)
    world.server.stopped(task, "by its user")
    world.cloud.end("fake-" + instance.id)
    world.after(20).pass_once()
    assert world.server.states([task])[task].status is TaskStatus.STOPPED


def test_a_task_that_was_claimed_and_never_started_comes_back() -> None:
    world = World()
    (task,) = world.enqueue("one")
    assert world.server.claim(world.server.waiting(world.queues)[0])
    world.pass_once().after(30).pass_once()
    assert world.server.waiting(world.queues) == ()  # somebody may be about to start it
    world.after(40).pass_once()
    assert [t.id for t in world.server.waiting(world.queues)] == [task]


def test_a_silent_machine_is_ended_and_its_task_comes_back_only_when_it_is_gone() -> None:
    world = World()
    (task,) = world.enqueue("one")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.run(instance, task)
    world.cloud.next_terminate_faults.append(Throttled("slow down"))
    world.after(CONTACT_LOST_AFTER.total_seconds() + 1).pass_once()
    assert world.instance().state is InstanceState.TERMINATING
    assert world.server.waiting(world.queues) == ()
    world.after(20).pass_once().after(20).pass_once()
    assert [t.id for t in world.server.waiting(world.queues)] == [task]


def test_a_machine_that_nobody_knows_is_reported_at_once_and_ended_after_a_grace_time() -> None:
    world = World()
    world.cloud.launch(
        [
            LaunchOrder(
                instance="stranger",
                cluster="test",
                resource=a_resource(),
                offer=an_offer(),
                first_boot=FirstBoot(centre_url="", join_token=""),
            )
        ]
    )
    world.pass_once()
    assert world.kinds() == ["instance.orphan"]
    view = world.store.view()
    assert view
    assert [a.code for a in view.alerts] == ["orphan"]
    assert world.cloud.list("test")
    world.after(ORPHAN_GRACE.total_seconds()).pass_once()
    assert world.cloud.list("test") == []


def test_another_clusters_machines_are_not_ours() -> None:
    world = World()
    order = LaunchOrder(
        instance="theirs",
        cluster="other",
        resource=a_resource(),
        offer=an_offer(),
        first_boot=FirstBoot(centre_url="", join_token=""),
    )
    world.cloud.launch([order])
    world.pass_once().after(ORPHAN_GRACE.total_seconds()).pass_once()
    assert len(world.cloud.list("other")) == 1


def test_an_offer_without_capacity_is_left_alone_and_the_next_resource_is_used_in_the_same_pass() -> None:
    world = World(resources=(a_resource(), a_resource("more")), queues=(a_queue(resources=("gpu", "more")),))
    world.enqueue("one")
    world.cloud.next_order_faults.append(NoCapacity("no a10 left"))
    world.pass_once()
    assert world.instance().resource == "more"
    assert world.cloud.launch_calls == [("p0-0",), ("p0r1-0",)]


def test_a_failed_launch_is_repeated_less_and_less_often() -> None:
    world = World()
    world.enqueue("one")
    tries = []
    for second in range(0, 400, 2):
        world.cloud.next_order_faults.append(UnknownProviderFault("broken"))
        world.pass_once()
        if len(world.cloud.launch_calls) > len(tries):
            tries.append(second)
        world.after(2)
    gaps = [later - sooner for sooner, later in pairwise(tries)]
    assert gaps == [10, 20, 40, 80, 160]


def test_machines_that_never_enrol_are_launched_less_and_less_often() -> None:
    world = World()
    world.enqueue("one")
    launches = []
    for second in range(0, 400, 2):
        world.pass_once()
        for instance in world.instances():  # a broken image: it ends as soon as it has booted
            launches.append(second)
            world.cloud.end("fake-" + instance.id)
        world.after(2)
    assert [later - sooner for sooner, later in pairwise(launches)] == [12, 22, 42, 82]
    view = world.store.view()
    assert view
    assert [a.code for a in view.alerts] == ["breaker"]
    assert "5 machines in a row did no work, last: p" in view.alerts[0].text


def test_an_offer_whose_machines_work_is_trusted_again() -> None:
    world = World()
    (task,) = world.enqueue("one")
    world.pass_once()
    world.cloud.end("fake-" + world.instance().id)
    world.after(2).pass_once().after(20).pass_once()
    instance = world.enroll(world.instance())
    world.run(instance, task)
    world.after(2).pass_once()
    assert world.dispatcher.backoffs.failures == {}


def test_a_machine_that_works_does_not_make_a_sold_out_offer_be_tried_at_every_pass() -> None:
    world = World()
    world.enqueue("first")
    machine = world.pass_once().instance()
    world.run(world.enroll(world.after(60).instance()), machine.reason.task or "")
    world.enqueue(*[f"t{n}" for n in range(4)])  # three find room beside the first
    world.cloud.next_order_faults.append(NoCapacity("none left"))
    before = len(world.cloud.launch_calls)
    for _ in range(10):
        world.after(2).pass_once()
    assert len(world.cloud.launch_calls) == before + 1


def test_a_wrongly_described_resource_burns_no_intents() -> None:
    world = World()
    world.enqueue("one")
    world.cloud.next_launch_faults.append(BadRequest("no such image"))
    world.pass_once().after(2).pass_once()
    assert world.instances() == ()
    assert len(world.cloud.launch_calls) == 1
    assert "launch failed: no such image" in [e.text for e in world.store.events()]


def test_a_launch_whose_answer_was_lost_is_repeated_with_the_same_token() -> None:
    world = World()
    world.enqueue("one")
    world.cloud.next_launch_faults.append(UnknownProviderFault("the connection broke"))
    world.pass_once()
    assert world.instance().state is InstanceState.REQUESTED
    world.after(2).pass_once()
    assert world.cloud.launch_calls == [("p0-0",), ("p0-0",)]
    assert world.instance().state is InstanceState.BOOTING


def test_a_cloud_that_does_not_list_ends_nothing() -> None:
    world = World()
    world.enqueue("one")
    world.pass_once()
    world.cloud.next_list_faults.append(UnknownProviderFault("500"))
    world.after(60).pass_once()
    assert len(world.instances()) == 1


def test_only_one_dispatcher_of_a_cluster_acts() -> None:
    world = World()
    world.enqueue("one")
    world.pass_once()
    world.restart(holder="another")
    with pytest.raises(NotLeading):
        world.pass_once()
    world.after(16).pass_once()
    assert len(world.cloud.machines) == 1


def test_an_operators_order_to_end_is_carried_out() -> None:
    world = World()
    world.enqueue("one")
    world.pass_once()
    world.server.delete(world.server.waiting(world.queues)[0].id)
    world.store.request_terminate(world.instance().id, Reason(code="operator", text="by hand"), world.at)
    world.after(2).pass_once()
    assert world.cloud.list("test") == []


def test_work_that_appears_is_announced_once() -> None:
    world = World()
    world.enqueue("one", "two")
    world.pass_once().after(2).pass_once()
    assert world.announced == 1


def test_the_view_says_what_waits_and_why() -> None:
    world = World()
    (task,) = world.enqueue("one")
    world.pass_once()
    view = world.store.view()
    assert view
    assert [(q.name, q.queued) for q in view.queues] == [("train", 1)]
    assert [(w.task, w.reason.code) for w in view.waiting] == [(task, "launching")]


def test_a_dispatcher_that_is_closing_launches_nothing_also_not_a_minimum() -> None:
    world = World(resources=(a_resource(min_instances=1),))
    world.enqueue("one")
    world.dispatcher.is_closing = True
    world.pass_once()
    assert world.instances() == ()


def test_a_wish_that_is_ignored_is_told_once() -> None:
    world = World()
    world.server.ensure_queues([q.name for q in world.queues])
    task = world.server.add("greedy", tags=("gpus:abc",))
    world.server.enqueue(task, "train")
    world.pass_once().after(2).pass_once()
    world.restart()
    world.after(2).pass_once()
    told = [e for e in world.store.events(task=task) if e.kind == "task.wish_ignored"]
    assert [("gpus:abc" in e.text, e.queue) for e in told] == [(True, "train")]


def test_events_are_kept_for_thirty_days() -> None:
    world = World()
    world.pass_once()
    world.store.append_events([Event(at=world.at, kind="old", text="old")])
    day = 24 * 3600
    world.after(29 * day).pass_once()
    assert "old" in world.kinds()
    world.after(1.5 * day).pass_once()
    assert "old" not in world.kinds()


def test_a_window_that_opens_is_kept_by_the_pass_at_that_time_and_named_in_the_view() -> None:
    window = Window(cron="30 9 * * *", lasts=timedelta(hours=1), min_instances=2)
    world = World(resources=(a_resource(schedule=(window,)),)).pass_once()
    assert world.instances() == ()
    assert world.dispatcher.limits().until == T0 + timedelta(minutes=30)
    made = world.after(30 * 60).dispatcher.run_pass()
    assert [i.reason.code for i in world.instances()] == ["min_instances"] * 2
    assert made.wake_at == T0 + timedelta(minutes=90)
    view = world.store.view()
    assert view is not None
    assert [note.code for note in view.notes] == ["schedule"]


def test_after_a_restart_who_stays_is_known_again_with_the_first_pass() -> None:
    world = World(queues=(a_queue(headroom=1),)).pass_once().pass_once()
    kept = world.dispatcher.kept
    assert kept == {world.instance().id}
    world.restart()
    assert world.dispatcher.kept is None
    assert world.pass_once().dispatcher.kept == kept


def test_strangers_that_are_gone_are_forgotten_the_oldest_first_and_those_that_are_there_are_not(monkeypatch) -> None:
    monkeypatch.setattr(reconcile, "MOST_ORPHANS", 5)
    world = World()

    def a_stranger(name: str) -> None:
        order = LaunchOrder(
            instance=name,
            cluster="test",
            resource=a_resource(),
            offer=an_offer(),
            first_boot=FirstBoot(centre_url="", join_token=""),
        )
        world.cloud.launch([order])

    a_stranger("stays")
    orphans = world.dispatcher.reconciler.orphans
    seen_at = None
    for number in range(20):
        a_stranger(f"goes{number}")
        world.after(1).pass_once()
        seen_at = seen_at or orphans["fake-stays"]
        world.cloud.end(f"fake-goes{number}")
    world.after(1).pass_once()
    assert orphans["fake-stays"] == seen_at
    assert len(orphans) <= 6
    assert "fake-goes19" in orphans
    assert world.kinds().count("instance.orphan") == 21


def test_events_are_kept_for_a_month_and_runs_for_more_than_a_year() -> None:
    world = World()
    (task,) = world.enqueue("one")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.run(instance, task)
    (run,) = world.store.runs(task=task)
    world.store.close_run(replace(run, ended_at=world.at, result=RunResult.COMPLETED))
    world.server.delete(task)
    day_s = 86_400
    world.after(31 * day_s).pass_once()
    assert world.store.events(task=task) == ()
    assert [r.task for r in world.store.runs(task=task)] == [task]
    for _ in range(370):
        world.after(day_s).pass_once()
    assert world.store.runs(task=task) == ()
    assert world.store.instance(instance.id) is not None, "what it cost is told for ever"


def test_a_dispatcher_whose_clouds_take_longer_than_its_lead_lets_nobody_launch_beside_it() -> None:
    """Its lead had run out, and another planned by what was there before its own launch: two machines for one task."""
    world = World(budget=Budget(max_instances=1))
    world.enqueue("one")
    slow = world.dispatcher
    world.restart(holder="another")
    other, listed, remembered = world.dispatcher, world.cloud.list, world.store.remember_view

    def list_slowly(cluster: str) -> Sequence[Machine]:
        world.cloud.list = listed  # type: ignore[method-assign]
        world.after(20)
        return listed(cluster)

    def remember(view: View) -> None:
        world.store.remember_view = remembered  # type: ignore[method-assign]
        with pytest.raises(NotLeading):
            other.run_pass()
        remembered(view)

    world.cloud.list = list_slowly  # type: ignore[method-assign]
    world.store.remember_view = remember  # type: ignore[method-assign]
    slow.run_pass()
    assert len(world.cloud.machines) == 1


def test_who_ends_everything_can_wait_for_the_pass_that_may_still_launch() -> None:
    world = World()
    loop, listed, seen = Loop(world.dispatcher), world.cloud.list, list[bool]()

    def list_and_stop(cluster: str) -> Sequence[Machine]:
        if world.dispatcher.is_closing:
            loop.stop()
        world.dispatcher.is_closing = True
        loop.wake()
        seen.append(loop.may_launch)
        return listed(cluster)

    world.cloud.list = list_and_stop  # type: ignore[method-assign]
    loop.run()
    assert (seen, loop.may_launch) == ([True, False], False)
