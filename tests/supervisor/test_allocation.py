"""Which GPUs a task gets."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.model import Gpu, GpuNeed, Queue, Task
from fleet.supervisor.allocation import choose, free_cpu_slots, reserve, why_never

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def gpus(*models: str, memory_gib: float = 24) -> list[Gpu]:
    return [
        Gpu(index=i, uuid=f"GPU-{i}", model=model or "A10", memory_gib=memory_gib) for i, model in enumerate(models)
    ]


def four() -> list[Gpu]:
    return gpus("", "", "", "")


def a_task(low: float, high: float | None = None, **wishes) -> Task:
    need = GpuNeed(at_least=low, at_most=low if high is None else high)
    return Task(id="t", queue="train", position=0, enqueued_at=T0, need=need, **wishes)


def a_queue(name: str = "train", slots: int | None = None) -> Queue:
    return Queue(name=name, resources=("lab",), need=GpuNeed(at_least=1, at_most=1), slots=slots)


def indexes(chosen) -> list[int] | None:
    return None if chosen is None else [gpu.index for gpu in chosen]


def test_a_task_gets_whole_gpus_lowest_first():
    assert indexes(choose(a_task(2), four(), cpu_slots=0)) == [0, 1]


def test_a_range_takes_what_is_free_between_its_bounds():
    assert indexes(choose(a_task(1, 4), four()[1:], cpu_slots=0)) == [1, 2, 3]
    assert indexes(choose(a_task(1, 2), four(), cpu_slots=0)) == [0, 1]
    assert choose(a_task(2, 4), four()[:1], cpu_slots=0) is None


def test_neighbours_that_are_both_free_stay_together():
    free = [gpu for gpu in four() if gpu.index != 1]  # 0 is alone already: it is taken, and 2 and 3 stay a pair
    assert indexes(choose(a_task(1), free, cpu_slots=0)) == [0]
    free = [gpu for gpu in four() if gpu.index != 2]
    assert indexes(choose(a_task(1), free, cpu_slots=0)) == [3]


def test_two_gpus_come_from_one_aligned_pair_where_there_is_one():
    free = [gpu for gpu in four() if gpu.index != 0]
    assert indexes(choose(a_task(2), free, cpu_slots=0)) == [2, 3]
    assert indexes(choose(a_task(2), four()[1:3], cpu_slots=0)) == [1, 2]


def test_a_model_word_is_found_in_the_model_without_regard_to_case():
    free = gpus("NVIDIA A10", "NVIDIA A100-SXM4-80GB")
    assert indexes(choose(a_task(1, gpu_type="a100"), free, cpu_slots=0)) == [1]
    assert why_never(a_task(2, gpu_type="a100"), free, a_queue()) == "needs 2 GPUs of type a100; this machine has 1"


def test_memory_is_the_number_on_the_box_not_what_the_driver_leaves_of_it():
    a10 = gpus("NVIDIA A10", memory_gib=22.5)
    assert indexes(choose(a_task(1, gpu_memory_gib=24), a10, cpu_slots=0)) == [0]
    assert why_never(a_task(1, gpu_memory_gib=40), a10, a_queue()) == "needs 1 GPUs with 40 GiB; this machine has 0"


def test_large_gpus_are_kept_for_those_who_ask_for_them():
    mixed = [
        Gpu(index=0, uuid="big", model="A100", memory_gib=80),
        Gpu(index=1, uuid="small", model="A10", memory_gib=24),
    ]
    assert indexes(choose(a_task(1), mixed, cpu_slots=0)) == [1]


def test_a_fraction_is_not_taken_and_told_why():
    assert why_never(a_task(0.5), four(), a_queue()) == "needs 0.5 of a GPU; this version hands out whole GPUs only"


def test_a_task_that_needs_more_than_the_machine_has_never_fits():
    assert why_never(a_task(8), four(), a_queue()) == "needs 8 GPUs; this machine has 4"
    assert why_never(a_task(2, 8), four(), a_queue()) is None


def test_a_cpu_task_needs_a_slot_and_no_gpu():
    assert choose(a_task(0), four(), cpu_slots=1) == ()
    assert choose(a_task(0), four(), cpu_slots=0) is None


def test_what_is_reserved_is_what_there_is_of_what_is_needed():
    assert indexes(reserve(a_task(4), four()[:3])) == [0, 1, 2]
    assert indexes(reserve(a_task(2, 4), four())) == [0, 1]
    assert reserve(a_task(0), four()) == ()


def test_queues_share_one_slot_a_cpu_unless_they_have_their_own():
    queues = [a_queue("prep"), a_queue("more"), a_queue("services", slots=16)]
    running = {"prep": 1, "more": 1, "services": 5}
    assert free_cpu_slots(queues[0], queues, running, cpus=4) == 2
    assert free_cpu_slots(queues[2], queues, running, cpus=4) == 11


@pytest.mark.parametrize("size", [1, 4, 8])
@given(data=st.data())
def test_what_is_chosen_is_free_and_as_many_as_the_need_allows(size: int, data):
    everything = gpus(*([""] * size))
    free = data.draw(st.lists(st.sampled_from(everything), unique=True))
    low = data.draw(st.integers(1, 8))
    high = data.draw(st.integers(low, 8))
    chosen = choose(a_task(low, high), free, cpu_slots=0)
    if len(free) < low:
        assert chosen is None
    else:
        assert len(chosen) == len(set(indexes(chosen))) == min(len(free), high)
        assert set(chosen) <= set(free)
