"""What a supervisor claims, and how deep it looks for it: a state in, claims out."""

from dataclasses import replace

from fleet.model import Gpu, GpuNeed, Task
from fleet.supervisor.claims import FIRST_LOOK, depth_to_look
from fleet.supervisor.decide import next_deadline
from fleet.supervisor.situation import FailedStart
from tests.supervisor.situations import GPUS, POLICY, a_part, a_queue, a_state, a_task, at, claims, held


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
    assert claims(state._replace(at=at(11))) == [("a", ("g0",))]
    assert next_deadline(state, POLICY) == at(11)


def test_nothing_is_taken_from_a_queue_that_is_not_ours_any_more():
    assert claims(a_state(waiting=(a_task("a", queue="other"),))) == []


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
