"""Which GPUs a task gets."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.model import Gpu, GpuNeed, Queue, Reason, Task
from fleet.supervisor.allocation import Free, choose, free_cpu_slots, grow, reserve, why_never

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
    assert indexes(choose(a_task(2), Free(whole=four()), cpu_slots=0)) == [0, 1]


def test_a_range_gets_what_it_needs_and_then_what_is_left_up_to_its_bound():
    assert indexes(choose(a_task(1, 4), Free(whole=four()), cpu_slots=0)) == [0]
    assert choose(a_task(2, 4), Free(whole=four()[:1]), cpu_slots=0) is None
    assert indexes(grow(a_task(1, 4), (four()[3],), Free(whole=four()[1:3]))) == [1, 2, 3]
    assert indexes(grow(a_task(1, 2), (four()[0],), Free(whole=four()[1:]))) == [0, 1]
    assert indexes(grow(a_task(1, 4), (four()[0],), Free(whole=[], shared={four()[1]: 5000}))) == [0]


def test_neighbours_that_are_both_free_stay_together():
    free = [gpu for gpu in four() if gpu.index != 1]  # 0 is alone already: it is taken, and 2 and 3 stay a pair
    assert indexes(choose(a_task(1), Free(whole=free), cpu_slots=0)) == [0]
    free = [gpu for gpu in four() if gpu.index != 2]
    assert indexes(choose(a_task(1), Free(whole=free), cpu_slots=0)) == [3]


def test_two_gpus_come_from_one_aligned_pair_where_there_is_one():
    free = [gpu for gpu in four() if gpu.index != 0]
    assert indexes(choose(a_task(2), Free(whole=free), cpu_slots=0)) == [2, 3]
    assert indexes(choose(a_task(2), Free(whole=four()[1:3]), cpu_slots=0)) == [1, 2]


def test_a_model_word_is_found_in_the_model_without_regard_to_case():
    free = gpus("NVIDIA A10", "NVIDIA A100-SXM4-80GB")
    assert indexes(choose(a_task(1, gpu_type="a100"), Free(whole=free), cpu_slots=0)) == [1]
    assert why_never(a_task(2, gpu_type="a100"), free, a_queue()) == "needs 2 GPUs of type a100; this machine has 1"


def test_memory_is_the_number_on_the_box_not_what_the_driver_leaves_of_it():
    a10 = gpus("NVIDIA A10", memory_gib=22.5)
    assert indexes(choose(a_task(1, gpu_memory_gib=24), Free(whole=a10), cpu_slots=0)) == [0]
    assert why_never(a_task(1, gpu_memory_gib=40), a10, a_queue()) == "needs 1 GPUs with 40 GiB; this machine has 0"


def test_large_gpus_are_kept_for_those_who_ask_for_them():
    mixed = [
        Gpu(index=0, uuid="big", model="A100", memory_gib=80),
        Gpu(index=1, uuid="small", model="A10", memory_gib=24),
    ]
    assert indexes(choose(a_task(1), Free(whole=mixed), cpu_slots=0)) == [1]


def test_a_part_goes_to_the_fullest_gpu_that_has_room_so_that_others_stay_whole():
    free = Free(whole=four()[2:], shared={four()[0]: 8000, four()[1]: 5000})
    assert indexes(choose(a_task(0.5), free, cpu_slots=0)) == [1]
    assert indexes(choose(a_task(0.6), free, cpu_slots=0)) == [0]
    assert indexes(choose(a_task(0.9), free, cpu_slots=0)) == [2]


def test_a_task_of_whole_gpus_gets_none_that_is_shared():
    free = Free(whole=four()[3:], shared={four()[0]: 9900})
    assert indexes(choose(a_task(1), free, cpu_slots=0)) == [3]
    assert choose(a_task(2), free, cpu_slots=0) is None


def test_a_gpu_that_is_held_whole_has_no_room_for_a_part():
    assert Free.of(four()[:1], [(("GPU-0",), None)]) == Free(whole=[])
    assert choose(a_task(0.5), Free.of(four()[:1], [(("GPU-0",), None)]), cpu_slots=0) is None


@pytest.mark.parametrize(
    ("part", "fit"), [(0.5, 2), (0.3333, 3), (0.25, 4), (0.125, 8), (0.1, 10), (0.01, 100), (0.51, 1)]
)
def test_as_many_parts_fit_on_a_gpu_as_make_a_whole(part: float, fit: int):
    (gpu,) = four()[:1]
    held = [((gpu.uuid,), part)] * (fit - 1)
    assert choose(a_task(part), Free.of([gpu], held), cpu_slots=0) == (gpu,)
    assert choose(a_task(part), Free.of([gpu], [*held, ((gpu.uuid,), part)]), cpu_slots=0) is None


def test_the_memory_that_a_part_asks_for_must_be_in_its_part():
    a10 = gpus("NVIDIA A10", memory_gib=22.5)
    assert why_never(a_task(0.5, gpu_memory_gib=12), a10, a_queue()) is None
    assert why_never(a_task(0.5, gpu_memory_gib=24), a10, a_queue()) == (
        "needs 0.5 of a GPU with 24 GiB; this machine has none"
    )
    free = Free.of(a10, [(("GPU-0",), 0.5)])
    assert indexes(choose(a_task(0.5, gpu_memory_gib=12), free, cpu_slots=0)) == [0]


def test_a_part_of_more_than_one_gpu_is_no_part():
    assert why_never(a_task(1.5), four(), a_queue()) == "needs 1.5 GPUs; parts are of one GPU alone"
    assert why_never(a_task(0.5, 2), four(), a_queue()) == "needs 0.5-2 GPUs; parts are of one GPU alone"


def test_for_a_task_of_whole_gpus_nobody_new_comes_onto_the_shared_ones_that_it_waits_for():
    shared = {four()[0]: 2500, four()[1]: 7500}
    assert indexes(reserve(a_task(2), Free(whole=four()[2:3], shared=shared))) == [2, 1]
    assert indexes(reserve(a_task(0.8), Free(whole=[], shared=shared))) == [1]


def test_a_task_that_needs_more_than_the_machine_has_never_fits():
    assert why_never(a_task(8), four(), a_queue()) == "needs 8 GPUs; this machine has 4"
    assert why_never(a_task(2, 8), four(), a_queue()) is None


def test_a_cpu_task_needs_a_slot_and_no_gpu():
    assert choose(a_task(0), Free(whole=four()), cpu_slots=1) == ()
    assert choose(a_task(0), Free(whole=four()), cpu_slots=0) is None


def test_what_is_reserved_is_what_there_is_of_what_is_needed():
    assert indexes(reserve(a_task(4), Free(whole=four()[:3]))) == [0, 1, 2]
    assert indexes(reserve(a_task(2, 4), Free(whole=four()))) == [0, 1]
    assert reserve(a_task(0), Free(whole=four())) == ()


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
    chosen = choose(a_task(low, high), Free(whole=free), cpu_slots=0)
    if len(free) < low:
        assert chosen is None
    else:
        left = Free(whole=free)
        left.take(GpuNeed(at_least=low, at_most=high), chosen)
        grown = grow(a_task(low, high), chosen, left)
        assert (len(chosen), len(grown)) == (low, min(len(free), high))
        assert sorted(indexes([*grown, *left.whole])) == sorted(indexes(free))


def mig_devices(count: int) -> list[Gpu]:
    name = "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    return [Gpu(index=100 + n, uuid=f"MIG-{n}", model=name, memory_gib=4.75, parent="GPU-x") for n in range(count)]


def test_a_task_of_one_gpu_gets_a_mig_device_first_so_that_whole_gpus_are_left():
    free = Free(whole=[*gpus("NVIDIA A100-SXM4-40GB"), *mig_devices(2)])
    assert indexes(choose(a_task(1), free, cpu_slots=0)) == [100]
    assert indexes(choose(a_task(1, gpu_memory_gib=40), Free(whole=free.whole), cpu_slots=0)) is None
    assert indexes(choose(a_task(1, gpu_memory_gib=24), free, cpu_slots=0)) == [0]


def test_mig_devices_are_never_joined_never_shared_and_no_part_of_a_range_that_grows():
    free = Free(whole=mig_devices(4))
    assert choose(a_task(2), free, cpu_slots=0) is None
    assert choose(a_task(0.5), free, cpu_slots=0) is None
    (one,) = choose(a_task(1, 4), free, cpu_slots=0)
    assert grow(a_task(1, 4), (one,), Free(whole=[*four(), *mig_devices(4)[1:]])) == (one,)
    assert reserve(a_task(2), free) == ()
    assert why_never(a_task(2), [*four()[:1], *mig_devices(4)], a_queue()) == (
        "needs 2 GPUs; this machine has 1; of its MIG devices a task can use one alone"
    )


@pytest.mark.parametrize(
    ("wish", "got"), [("a100", [0]), ("mig", [100]), ("1g.5gb", [100]), ("3g.20gb", None), ("a100|1g.5gb", [100])]
)
def test_who_wishes_for_a_model_means_a_whole_one_and_a_slice_is_wished_for_by_its_profile(wish: str, got):
    free = Free(whole=[*gpus("NVIDIA A100-SXM4-40GB"), *mig_devices(1)])
    assert indexes(choose(a_task(1, gpu_type=wish), free, cpu_slots=0)) == got


def test_a_gpu_that_is_set_aside_is_for_nobody():
    aside = replace(four()[0], set_aside=Reason(code="gpu_in_use", text="another computes on it"))
    free = Free.of([aside, *four()[1:]], [])
    assert indexes(choose(a_task(3), free, cpu_slots=0)) == [1, 2, 3]
    assert choose(a_task(4), free, cpu_slots=0) is None
    assert Free.of([aside], [(("GPU-0",), 0.5)]) == Free(whole=[])
    assert why_never(a_task(4), [aside, *four()[1:]], a_queue()) is None  # it is looked at again
