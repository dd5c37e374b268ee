"""Everything that a supervisor decides, as values: a state in, instructions out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.model import Gpu, GpuNeed, Queue, Reason, RunResult, Task
from fleet.queues.base import TaskStatus
from fleet.supervisor.decide import (
    FIRST_LOOK,
    Claim,
    EndMachine,
    FailedStart,
    Held,
    Overuse,
    Policy,
    ResumePulling,
    Sighting,
    State,
    StopPulling,
    StopTask,
    decide,
    depth_to_look,
    is_last_look_due,
    next_deadline,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
GPUS = tuple(Gpu(index=i, uuid=f"g{i}", model="A10", memory_gib=24) for i in range(4))
WHY = Reason(code="operator", text="an operator said so")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def a_queue(name: str, priority: int = 0, slots: int | None = None) -> Queue:
    return Queue(name=name, resources=("lab",), need=GpuNeed(at_least=1, at_most=1), priority=priority, slots=slots)


POLICY = Policy(
    queues=(a_queue("train"), a_queue("urgent", priority=10)),
    idle_timeout=timedelta(seconds=600),
    contact_timeout=timedelta(seconds=300),
    max_lifetime=timedelta(hours=24),
)


def a_task(id: str, gpus: float = 1, queue: str = "train", position: int = 0) -> Task:
    need = GpuNeed(at_least=gpus, at_most=gpus)
    return Task(id=id, queue=queue, position=position, enqueued_at=T0, need=need)


def held(id: str, *gpus: int, queue: str = "train", **more) -> Held:
    return Held(task=a_task(id, len(gpus), queue), gpus=tuple(f"g{i}" for i in gpus), **more)


def a_part(id: str, share: float, gpu: int, **more) -> Held:
    return Held(task=a_task(id, share), gpus=(f"g{gpu}",), **more)


def a_state(**known) -> State:
    """An idle machine in contact with everybody, ten seconds old."""
    now = known.get("at", at(10))
    idle = None if known.get("held") else T0
    base = {"at": now, "enrolled_at": T0, "gpus": GPUS, "cpus": 2, "idle_since": idle}
    seen = {"server_seen_at": now, "centre_seen_at": now, "peeked_at": now}
    return State(**{**base, **seen, **known})


def claims(state: State, policy: Policy = POLICY) -> list[tuple[str, tuple[str, ...]]]:
    return [(i.task.id, i.gpus) for i in decide(state, policy) if isinstance(i, Claim)]


# --- claims


def test_tasks_are_taken_in_the_order_of_their_queue():
    waiting = (a_task("b", position=1), a_task("a", position=0))
    assert claims(a_state(waiting=waiting)) == [("a", ("g0",)), ("b", ("g1",))]


def test_a_queue_of_higher_priority_comes_first():
    waiting = (a_task("later"), a_task("first", queue="urgent"))
    assert claims(a_state(waiting=waiting, gpus=GPUS[:1])) == [("first", ("g0",))]


def test_two_tasks_never_share_a_gpu():
    waiting = tuple(a_task(f"t{i}", position=i) for i in range(8))
    state = a_state(waiting=waiting, held=(held("x", 1), held("y", 2)))
    assert claims(state) == [("t0", ("g0",)), ("t1", ("g3",))]


def test_a_task_of_two_gpus_is_not_starved_by_tasks_of_one():
    waiting = (a_task("big", gpus=2), a_task("small", position=1))
    assert claims(a_state(waiting=waiting, held=(held("x", 0, 1, 2),))) == []


def test_behind_a_reservation_the_rest_of_the_machine_is_used():
    pair = tuple(Gpu(index=i, uuid=f"g{i}", model="H100", memory_gib=80) for i in (4, 5))
    waiting = (replace(a_task("big", gpus=2), gpu_type="H100"), a_task("small", position=1), a_task("more", position=2))
    state = a_state(waiting=waiting, gpus=(*GPUS[:1], *pair), held=(held("x", 4),))
    assert claims(state) == [("small", ("g0",))]


def test_a_task_that_can_never_fit_here_is_passed_over():
    waiting = (a_task("huge", gpus=8), a_task("one", position=2))
    assert claims(a_state(waiting=waiting)) == [("one", ("g0",))]


def test_tasks_of_parts_share_gpus_up_to_the_whole_and_those_of_whole_ones_do_not() -> None:
    waiting = tuple(a_task(f"t{n}", gpus=gpus, position=n) for n, gpus in enumerate((0.5, 0.7, 0.25, 0.25, 1, 0.3)))
    got = {"t0": "g0", "t1": "g1", "t2": "g1", "t3": "g0", "t4": "g2", "t5": "g3"}
    assert claims(a_state(waiting=waiting)) == [(task, (gpu,)) for task, gpu in got.items()]


def test_a_task_that_takes_one_to_four_leaves_what_those_behind_it_need_and_takes_the_rest() -> None:
    def elastic(id: str, position: int) -> Task:
        return replace(a_task(id, position=position), need=GpuNeed(at_least=1, at_most=4))

    alone = a_state(waiting=(elastic("a", 0),))
    assert claims(alone) == [("a", ("g0", "g1", "g2", "g3"))]
    together = a_state(waiting=(elastic("a", 0), a_task("b", position=1), elastic("c", 2)))
    assert claims(together) == [("a", ("g0", "g3")), ("b", ("g1",)), ("c", ("g2",))]
    before_a_large_one = a_state(waiting=(elastic("a", 0), a_task("b", gpus=4, position=1)))
    assert claims(before_a_large_one) == [("a", ("g0",))]


def test_two_queues_share_a_gpu_and_what_is_held_of_it_counts() -> None:
    waiting = (a_task("a", gpus=0.5, queue="urgent"), a_task("b", gpus=0.1), a_task("c", gpus=0.1, position=1))
    state = a_state(waiting=waiting, gpus=GPUS[:1], held=(a_part("x", 0.4, 0),))
    assert claims(state) == [("a", ("g0",)), ("b", ("g0",))]


def test_while_a_task_of_whole_gpus_waits_nobody_new_comes_onto_the_shared_ones_that_it_needs() -> None:
    parts = (a_part("x", 0.5, 0), a_part("y", 0.6, 1))
    waiting = (a_task("whole", gpus=1), a_task("a", gpus=0.4, position=1), a_task("b", gpus=0.1, position=2))
    assert claims(a_state(waiting=waiting, gpus=GPUS[:2], held=parts)) == [("a", ("g1",))]


def test_a_task_that_uses_more_memory_than_its_share_for_longer_than_a_moment_fails() -> None:
    def seen(times: int) -> State:
        over = Overuse(used_gib=20.04, allowed_gib=12, times=times)
        return a_state(held=(a_part("x", 0.5, 0, overuse=over),))

    assert decide(seen(2), POLICY) == ()
    (stop,) = decide(seen(3), POLICY)
    assert isinstance(stop, StopTask)
    assert (stop.task, stop.then, stop.reason.code) == ("x", RunResult.FAILED, "gpu_memory_exceeded")
    assert stop.reason.text.startswith("it uses 20.0 GiB of GPU memory; its share of the GPU, 0.5, is 12.0 GiB")


def test_a_task_that_holds_a_sick_gpu_goes_back_and_is_not_counted_as_one_that_failed_to_start() -> None:
    world = a_state(held=(held("a", 0), held("b", 1, 2)), gpus=(GPUS[0], GPUS[1], GPUS[3]), sick={"g2": "Xid 79"})
    (stop,) = decide(world, POLICY)
    assert isinstance(stop, StopTask)
    assert (stop.task, stop.then, stop.reason.code) == ("b", RunResult.REQUEUED, "gpu_sick")
    assert stop.reason.text == "a GPU that it holds is sick: Xid 79"
    stopping = replace(world, held=(held("a", 0), held("b", 1, 2, is_stopping=True)))
    assert decide(stopping, POLICY) == ()


def test_what_its_user_wants_of_a_task_comes_before_what_its_gpu_wants() -> None:
    seen = Sighting(status=TaskStatus.IN_PROGRESS, times=1, is_stop_asked=True, stop_asked_at=T0)
    (stop,) = decide(a_state(held=(held("a", 0, sighting=seen),), sick={"g0": "Xid 79"}), POLICY)
    assert isinstance(stop, StopTask)
    assert stop.reason.code == "user_stopped"


def test_cpu_tasks_take_one_slot_a_cpu_or_as_many_as_their_queue_says():
    policy = replace(POLICY, queues=(a_queue("prep"), a_queue("services", slots=3)))
    waiting = tuple(a_task(f"{q}{i}", gpus=0, queue=q, position=i) for q in ("prep", "services") for i in range(4))
    state = a_state(waiting=waiting, held=(held("x", queue="prep"),))
    assert [id for id, _ in claims(state, policy)] == ["prep0", "services0", "services1", "services2"]


def test_a_task_that_is_still_held_or_unsettled_here_is_not_taken_again():
    state = a_state(waiting=(a_task("a"), a_task("b")), held=(held("a", 0),), unsent=frozenset({"b"}))
    assert claims(state) == []


def test_a_gpu_that_does_not_answer_any_more_is_not_given_away():
    assert claims(a_state(waiting=(a_task("a"),), gpus=GPUS[2:])) == [("a", ("g2",))]


def test_a_task_whose_start_failed_waits_before_it_is_tried_here_again():
    failed = {"a": FailedStart(times=1, at=at(9))}
    state = a_state(waiting=(a_task("a"),), failed_starts=failed)
    assert claims(state) == []
    assert claims(replace(state, at=at(11))) == [("a", ("g0",))]
    assert next_deadline(state, POLICY) == at(11)


def test_nothing_is_taken_from_a_queue_that_is_not_ours_any_more():
    assert claims(a_state(waiting=(a_task("a", queue="other"),))) == []


# --- pulling and ending


def test_where_nothing_at_the_head_can_run_here_it_looks_deeper() -> None:
    too_large = tuple(a_task(f"big{n}", gpus=8, position=n) for n in range(FIRST_LOOK))
    assert depth_to_look(a_state(waiting=too_large), POLICY, FIRST_LOOK) == 4 * FIRST_LOOK
    behind = (*too_large, a_task("small", position=FIRST_LOOK))
    assert depth_to_look(a_state(waiting=behind), POLICY, 4 * FIRST_LOOK) == 4 * FIRST_LOOK
    assert claims(a_state(waiting=behind)) == [("small", ("g0",))]


def test_it_does_not_look_deeper_than_need_be() -> None:
    mine = tuple(a_task(f"t{n}", position=n) for n in range(FIRST_LOOK))
    assert depth_to_look(a_state(waiting=mine), POLICY, FIRST_LOOK) == FIRST_LOOK
    assert depth_to_look(a_state(waiting=mine), POLICY, 4 * FIRST_LOOK) == FIRST_LOOK
    assert depth_to_look(a_state(waiting=()), POLICY, 4 * FIRST_LOOK) == FIRST_LOOK


def test_an_idle_machine_stops_pulling_and_ends():
    state = a_state(at=at(600))
    assert decide(state, POLICY) == (
        StopPulling(reason=(why := Reason(code="idle", text="no task for 600 s", limit="idle_timeout=600s"))),
        EndMachine(reason=why),
    )
    assert decide(a_state(at=at(599)), POLICY) == ()


def test_without_an_idle_timeout_a_machine_waits_for_ever():
    assert decide(a_state(at=at(80_000)), replace(POLICY, idle_timeout=None)) == ()


def test_an_idle_machine_looks_once_more_into_the_queues_before_it_ends():
    state = a_state(at=at(600.2), peeked_at=at(599))
    assert decide(state, POLICY) == ()
    assert is_last_look_due(state, POLICY)
    assert decide(replace(state, peeked_at=at(600.1), waiting=(a_task("a"),)), POLICY) == (
        Claim(task=a_task("a"), gpus=("g0",)),
    )
    assert not is_last_look_due(replace(state, peeked_at=at(600.1)), POLICY)
    assert isinstance(decide(replace(state, at=at(601)), POLICY)[-1], EndMachine)  # the server does not answer


def test_a_machine_with_a_task_is_not_idle():
    assert decide(a_state(at=at(6000), held=(held("a", 0),)), POLICY) == ()


def test_a_drain_order_stops_pulling_and_ends_the_machine_when_it_is_empty():
    busy = a_state(drain=WHY, held=(held("a", 0),), waiting=(a_task("b"),))
    assert decide(busy, POLICY) == (StopPulling(reason=WHY, is_for_good=False),)
    assert decide(replace(busy, stopped_pulling=WHY), POLICY) == ()
    assert decide(a_state(drain=WHY, stopped_pulling=WHY), POLICY) == (EndMachine(reason=WHY),)


def test_a_drain_order_that_is_taken_back_lets_a_machine_pull_again():
    drained = a_state(stopped_pulling=WHY, is_stopped_for_good=False, held=(held("a", 0),), waiting=(a_task("b"),))
    assert decide(replace(drained, drain=WHY), POLICY) == ()
    assert decide(drained, POLICY) == (ResumePulling(),)
    assert claims(replace(drained, stopped_pulling=None)) == [("b", ("g1",))]


def test_a_machine_that_grew_too_old_while_it_drained_does_not_pull_again():
    drained = a_state(at=at(24 * 3600), stopped_pulling=WHY, is_stopped_for_good=False, held=(held("a", 0),))
    (stop,) = decide(drained, POLICY)
    assert (stop.reason.code, stop.is_for_good) == ("max_lifetime", True)
    assert decide(replace(drained, stopped_pulling=stop.reason, is_stopped_for_good=True), POLICY) == ()


def test_an_end_order_after_a_drain_is_for_good():
    drained = a_state(end=WHY, stopped_pulling=WHY, is_stopped_for_good=False, held=(held("a", 0, is_stopping=True),))
    assert decide(drained, POLICY) == (StopPulling(reason=WHY),)


def test_who_has_stopped_pulling_for_good_does_not_begin_again():
    assert claims(a_state(stopped_pulling=WHY, drain=None, waiting=(a_task("a"),))) == []


def test_an_end_order_puts_the_tasks_back_and_ends_when_they_are_gone():
    busy = a_state(end=WHY, held=(held("a", 0), held("b", 1, is_stopping=True)))
    assert decide(busy, POLICY) == (StopTask(task="a", reason=WHY, then=RunResult.REQUEUED), StopPulling(reason=WHY))
    assert decide(a_state(end=WHY, stopped_pulling=WHY), POLICY) == (EndMachine(reason=WHY),)


def test_a_machine_does_not_end_before_the_server_knows_what_became_of_its_tasks():
    state = a_state(drain=WHY, stopped_pulling=WHY, unsent=frozenset({"a"}))
    assert decide(state, POLICY) == ()
    assert decide(replace(state, server_seen_at=at(10 - 300)), POLICY) == (EndMachine(reason=WHY),)


def test_at_its_maximum_lifetime_a_machine_drains():
    state = a_state(at=at(24 * 3600), held=(held("a", 0),))
    (stop,) = decide(state, POLICY)
    assert (stop.reason.code, stop.reason.limit) == ("max_lifetime", "max_lifetime=86400s")


def test_without_the_server_and_the_centre_tasks_are_ended_before_others_get_them():
    state = a_state(at=at(1000), held=(held("a", 0),), server_seen_at=at(700), centre_seen_at=at(650))
    stop, quit_pulling = decide(state, POLICY)
    assert (stop.task, stop.then, stop.reason.code) == ("a", RunResult.REQUEUED, "contact_lost")
    assert quit_pulling == StopPulling(reason=stop.reason)
    assert decide(replace(state, held=(), unsent=frozenset({"a"})), POLICY)[-1] == EndMachine(reason=stop.reason)


@pytest.mark.parametrize("silent", ["server_seen_at", "centre_seen_at"])
def test_one_of_the_two_is_contact_enough_to_go_on_with_tasks(silent: str):
    assert decide(a_state(at=at(1000), held=(held("a", 0),), **{silent: T0}), POLICY) == ()


def test_the_next_deadline_is_the_first_that_time_alone_brings():
    assert next_deadline(a_state(), POLICY) == at(10 + 300)  # contact
    assert next_deadline(a_state(at=at(599), peeked_at=at(598)), POLICY) == at(600)  # idle
    assert next_deadline(a_state(at=at(600)), POLICY) == at(601)  # the last look is over
    never = replace(POLICY, idle_timeout=None, max_lifetime=None, contact_timeout=timedelta(days=9))
    assert next_deadline(a_state(), never) == at(10) + timedelta(days=9)


# --- the end of tasks


def seen(status: TaskStatus | None, times: int = 1, **more) -> tuple[Held, ...]:
    return (held("a", 0, sighting=Sighting(status=status, times=times, **more)),)


def stops(state: State) -> list[tuple[str, RunResult | None]]:
    return [(i.reason.code, i.then) for i in decide(state, POLICY) if isinstance(i, StopTask)]


def test_a_task_is_stopped_when_its_user_asks():
    state = a_state(held=seen(TaskStatus.IN_PROGRESS, is_stop_asked=True, stop_asked_at=at(9)))
    assert stops(state) == [("user_stopped", RunResult.STOPPED)]


def test_its_abort_callback_has_the_time_that_it_asked_for():
    asked = {"is_stop_asked": True, "stop_asked_at": at(9), "abort_callback_s": 30.0}
    state = a_state(held=seen(TaskStatus.IN_PROGRESS, **asked))
    assert stops(state) == []
    assert next_deadline(state, POLICY) == at(39)
    assert stops(replace(state, at=at(39), server_seen_at=at(39))) == [("user_stopped", RunResult.STOPPED)]
    done = seen(TaskStatus.IN_PROGRESS, **asked, is_abort_callback_done=True)
    assert stops(replace(state, held=done)) == [("user_stopped", RunResult.STOPPED)]


@pytest.mark.parametrize("status", [TaskStatus.STOPPED, TaskStatus.CLOSED, TaskStatus.PUBLISHED, TaskStatus.QUEUED])
def test_a_task_whose_status_was_changed_is_ended_without_a_word(status: TaskStatus):
    assert stops(a_state(held=seen(status))) == [("status_changed", None)]


@pytest.mark.parametrize("status", [TaskStatus.CREATED, TaskStatus.FAILED])
def test_a_reset_or_failed_task_is_ended_when_it_is_seen_so_twice(status: TaskStatus):
    assert stops(a_state(held=seen(status))) == []
    assert stops(a_state(held=seen(status, times=2))) == [("status_changed", None)]


def test_a_deleted_task_and_one_that_runs_elsewhere_are_ended():
    assert stops(a_state(held=seen(None))) == [("deleted", None)]
    assert stops(a_state(held=seen(TaskStatus.IN_PROGRESS, is_elsewhere=True))) == [("elsewhere", None)]


def test_a_completed_task_may_finish_what_it_does():
    assert stops(a_state(held=seen(TaskStatus.COMPLETED, times=99))) == []


def test_a_task_is_stopped_once():
    gone = (replace(seen(None)[0], is_stopping=True),)
    assert stops(a_state(held=gone)) == []


def test_a_task_whose_agent_does_not_start_goes_back_and_fails_the_third_time():
    def after(times: int) -> list[tuple[str, RunResult | None]]:
        return stops(a_state(held=(held("a", 0, start_error="no disk", starts_failed=times),)))

    assert after(1) == after(2) == [("start_failed", RunResult.REQUEUED)]
    assert after(3) == [("start_failed", RunResult.FAILED)]


# --- the end of the machine, by its other deadlines


def test_who_is_kept_awake_does_not_end_and_is_given_the_whole_idle_time_once_more():
    state = a_state(at=at(700), peeked_at=at(700), awake_at=at(695))
    assert decide(state, POLICY) == ()
    assert next_deadline(replace(state, server_seen_at=at(700), centre_seen_at=at(700)), POLICY) == at(1000)
    assert next_deadline(replace(state, server_seen_at=at(1200)), POLICY) == at(695 + 600)
    gone = replace(state, at=at(1295), peeked_at=at(1295), server_seen_at=at(1290))
    assert decide(gone, POLICY)[-1].reason.code == "idle"


def test_nothing_that_keeps_it_awake_stops_an_order_or_an_age():
    awake = a_state(at=at(24 * 3600), peeked_at=at(24 * 3600), awake_at=at(24 * 3600), server_seen_at=at(24 * 3600))
    assert decide(awake, POLICY)[-1].reason.code == "max_lifetime"
    assert decide(replace(awake, at=at(20), awake_at=at(20), drain=WHY), POLICY)[-1] == EndMachine(reason=WHY)


def test_a_machine_that_is_too_old_and_not_empty_puts_its_tasks_back_where_no_dispatcher_did_it():
    old = 24 * 3600 + 16 * 60
    state = a_state(at=at(old), held=(held("a", 0),), stopped_pulling=WHY, server_seen_at=at(old))
    (stop,) = decide(state, POLICY)
    assert (stop.task, stop.then, stop.reason.code) == ("a", RunResult.REQUEUED, "max_lifetime")
    assert decide(replace(state, at=at(old - 1)), POLICY) == ()
    assert next_deadline(replace(state, at=at(old - 1)), POLICY) == at(old)


def test_a_machine_whose_startup_hooks_are_not_done_by_the_boot_deadline_ends():
    policy = replace(POLICY, boot_timeout=timedelta(seconds=90))
    state = a_state(at=at(90), has_started_up=False, idle_since=None)
    stop, end = decide(state, policy)
    assert (end.reason.code, end.reason.limit) == ("boot_timeout", "boot_timeout=90s")
    assert stop == StopPulling(reason=end.reason)
    assert decide(replace(state, at=at(89)), policy) == ()
    assert next_deadline(replace(state, at=at(89)), policy) == at(90)
    assert decide(replace(state, has_started_up=True), policy) == ()
