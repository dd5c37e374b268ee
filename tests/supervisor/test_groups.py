"""Which of several GPUs a task gets: by how they are joined, and so that little is broken up."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.model import PARTS_OF_A_GPU, Gpu, in_parts
from fleet.supervisor.allocation import Free, choose, grow
from fleet.supervisor.groups import FARTHEST, best_group
from tests.supervisor.test_allocation import a_task, gpus, indexes

NVLINK, SWITCH, NODE = 0, 1, 2


def eight() -> list[Gpu]:
    return gpus(*[""] * 8)


def links(*groups: tuple[int, set[int]]) -> dict[frozenset[str], int]:
    """How far apart all within each of these groups (of numbers) are; the first that speaks of two is right."""
    found: dict[frozenset[str], int] = {}
    for far, group in groups:
        for a, b in combinations(sorted(group), 2):
            found.setdefault(frozenset((f"GPU-{a}", f"GPU-{b}")), far)
    return found


def apart(chosen: tuple[Gpu, ...], known: dict[frozenset[str], int]) -> tuple[int, ...]:
    pairs = [known.get(frozenset((a.uuid, b.uuid)), FARTHEST) for a, b in combinations(chosen, 2)]
    return tuple(pairs.count(far) for far in range(FARTHEST, 0, -1))


# Two NUMA nodes of four; on each, GPUs joined by NVLink in pairs that are no neighbours by number.
TWO_NODES = links(
    (NVLINK, {0, 2}), (NVLINK, {1, 3}), (NVLINK, {4, 6}), (NVLINK, {5, 7}), (NODE, {0, 1, 2, 3}), (NODE, {4, 5, 6, 7})
)


def test_two_gpus_are_joined_by_nvlink_where_two_such_are_free():
    assert indexes(best_group(eight(), 2, TWO_NODES)) == [0, 2]
    free = [gpu for gpu in eight() if gpu.index in (0, 1, 4, 5, 7)]
    assert indexes(best_group(free, 2, TWO_NODES)) == [5, 7]


def test_without_nvlink_they_are_on_one_numa_node():
    free = [gpu for gpu in eight() if gpu.index in (3, 4, 5)]
    assert indexes(best_group(free, 2, TWO_NODES)) == [4, 5]


def test_gpus_behind_one_pcie_switch_are_nearer_than_others_of_their_node():
    known = links((SWITCH, {2, 3}), (NODE, {0, 1, 2, 3}))
    assert indexes(best_group(eight()[:4], 2, known)) == [2, 3]


def test_a_task_of_one_gpu_takes_one_whose_partner_is_busy_and_leaves_the_pairs_whole():
    free = [gpu for gpu in eight() if gpu.index != 6]
    assert indexes(best_group(free, 1, TWO_NODES)) == [4]


def test_a_pair_comes_from_the_node_that_is_broken_up_already():
    free = [gpu for gpu in eight() if gpu.index not in (5, 7)]
    assert indexes(best_group(free, 2, TWO_NODES)) == [4, 6]


def test_a_range_grows_to_gpus_that_are_joined():
    (first,) = choose(a_task(1, 2), Free(whole=eight(), links=TWO_NODES), 0)
    left = Free(whole=[gpu for gpu in eight() if gpu is not first and gpu.index != 2], links=TWO_NODES)
    assert indexes(grow(a_task(1, 2), (first,), left)) == [1, 3]


def test_large_memory_is_kept_for_the_tasks_that_ask_for_it_but_not_at_the_cost_of_links():
    mixed = [*gpus("", "", memory_gib=80), *[gpu for gpu in eight() if gpu.index > 1]]
    known = links((NVLINK, {0, 1}))
    assert indexes(best_group(mixed, 2, known)) == [0, 1]
    assert indexes(best_group(mixed, 1, known)) == [2]


def test_of_more_gpus_than_can_all_be_tried_a_joined_group_is_found_too():
    sixteen = gpus(*[""] * 16)
    known = links((NVLINK, set(range(1, 16, 2))), (NODE, set(range(0, 16, 2))))
    assert indexes(best_group(sixteen, 8, known)) == list(range(1, 16, 2))
    assert indexes(best_group(sixteen, 7, known)) == [1, 3, 5, 7, 9, 11, 13]


ANY_LINKS = st.dictionaries(
    st.sampled_from([frozenset((f"GPU-{a}", f"GPU-{b}")) for a, b in combinations(range(8), 2)]),
    st.integers(0, FARTHEST),
)


@settings(max_examples=200, deadline=None)
@given(known=ANY_LINKS, free=st.sets(st.integers(0, 7), min_size=1), count=st.integers(1, 8))
def test_no_other_choice_of_so_many_is_better_joined(known: dict[frozenset[str], int], free: set[int], count: int):
    usable = [gpu for gpu in eight() if gpu.index in free]
    chosen = choose(a_task(count), Free(whole=usable, links=known), 0)
    if count > len(usable):
        assert chosen is None
        return
    assert len(set(indexes(chosen)) & free) == count
    assert apart(chosen, known) == min(apart(each, known) for each in combinations(usable, count))


SIZES = st.sampled_from([0.1, 0.25, 0.3333, 0.5, 0.7, 1, 2, 3, 4])


@settings(max_examples=100, deadline=None)
@given(known=ANY_LINKS, count=st.integers(1, 8), mig=st.integers(0, 3), steps=st.lists(st.tuples(SIZES, st.booleans())))
def test_a_gpu_is_one_tasks_or_less_than_full_of_parts_and_what_ends_gives_all_back(
    known: dict[frozenset[str], int], count: int, mig: int, steps: list[tuple[float, bool]]
):
    slices = [
        Gpu(index=100 + n, uuid=f"MIG-{n}", model="A100 MIG 1g.5gb", memory_gib=5, parent="x") for n in range(mig)
    ]
    everything = [*eight()[:count], *slices]
    held: list[tuple[tuple[str, ...], float | None]] = []
    for size, is_end in steps:
        if is_end and held:
            held.pop(int(size * 10) % len(held))
            continue
        task = a_task(size)
        chosen = choose(task, Free.of(everything, held, known), 0)
        if chosen is not None:
            held.append((tuple(gpu.uuid for gpu in chosen), task.need.share))
        for gpu in everything:
            shares = [share for uuids, share in held if gpu.uuid in uuids]
            assert shares in ([], [None]) or sum(in_parts(share) for share in shares) <= PARTS_OF_A_GPU
            assert not gpu.is_mig or shares in ([], [None])
    assert Free.of(everything, [], known) == Free(whole=everything, links=known)
    nothing_left = Free.of(everything, held, known)
    assert set(nothing_left.whole) == {g for g in everything if not any(g.uuid in uuids for uuids, _ in held)}
