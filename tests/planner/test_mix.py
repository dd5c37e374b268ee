"""The cheapest mix of machines for a batch of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.planner.mix import Box, Group, Pattern, cheapest_mix

Groups = list[Group[str]]


def a_little_longer(tasks: int) -> float:
    """As for a queue of which nothing is known."""
    return 1 + 0.005 * (tasks - 1)


def boxes_of(*kinds: tuple[float, float]) -> list[Box]:
    """From (GPUs, US dollars an hour)."""
    return [Box(place, gpus, usd) for place, (gpus, usd) in enumerate(kinds)]


def groups_of(boxes: Sequence[Box], *kinds: tuple[float, int]) -> Groups:
    """From (GPUs of each, how many), for all boxes that are large enough."""
    return [
        Group(f"{gpus:g}", gpus, count, tuple(b.place for b in boxes if b.gpus >= gpus - 1e-9)) for gpus, count in kinds
    ]


def machines(mix: Sequence[Pattern[str]], boxes: Sequence[Box]) -> Counter[float]:
    """How many of each number of GPUs."""
    found: Counter[float] = Counter()
    for pattern in mix:
        found[boxes[pattern.box].gpus] += pattern.times
    return found


def usd(mix: Sequence[Pattern[str]], boxes: Sequence[Box]) -> float:
    return sum(boxes[p.box].usd * a_little_longer(sum(p.tasks.values())) * p.times for p in mix)


def test_eight_small_tasks_share_a_large_machine_that_is_cheaper_than_eight_small_ones() -> None:
    boxes = boxes_of((1, 1.0), (8, 6.0))
    assert machines(cheapest_mix(groups_of(boxes, (1, 8)), boxes, a_little_longer), boxes) == {8: 1}


def test_where_prices_go_with_gpus_small_machines_win() -> None:
    boxes = boxes_of((1, 1.0), (2, 2.0), (8, 8.0))
    assert machines(cheapest_mix(groups_of(boxes, (1, 8)), boxes, a_little_longer), boxes) == {1: 8}


def test_where_the_longest_of_eight_runs_four_times_the_mean_small_machines_win_though_they_cost_more() -> None:
    boxes = boxes_of((1, 1.0), (8, 6.0))
    mix = cheapest_mix(groups_of(boxes, (1, 8)), boxes, lambda tasks: 1 + 3 / 7 * (tasks - 1))
    assert machines(mix, boxes) == {1: 8}


def test_odd_sizes_share_a_machine() -> None:
    boxes = boxes_of((4, 4.0), (8, 8.0))
    mix = cheapest_mix(groups_of(boxes, (5, 1), (3, 1)), boxes, a_little_longer)
    assert [(boxes[p.box].gpus, dict(p.tasks)) for p in mix] == [(8, {"5": 1, "3": 1})]


def test_a_part_of_a_gpu_is_of_one_gpu() -> None:
    boxes = boxes_of((2, 2.0))
    mix = cheapest_mix(groups_of(boxes, (0.6, 3)), boxes, a_little_longer)
    assert machines(mix, boxes) == {2: 2}  # 1.8 GPUs, but no two of them on one
    mix = cheapest_mix(groups_of(boxes, (0.6, 2), (0.4, 2)), boxes, a_little_longer)
    assert [dict(p.tasks) for p in mix] == [{"0.6": 2, "0.4": 2}]


def test_a_machine_that_only_some_may_use_is_only_for_those() -> None:
    boxes = boxes_of((8, 1.0), (8, 9.0))
    groups = [Group("any", 1, 4, (0, 1)), Group("picky", 1, 4, (1,))]
    for pattern in cheapest_mix(groups, boxes, a_little_longer):
        assert "picky" not in pattern.tasks or pattern.box == 1


SIZES = st.sampled_from([0.25, 0.5, 0.6, 1, 2, 3, 4, 5, 8])
KINDS = st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.floats(0.1, 30)), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(kinds=KINDS, wanted=st.dictionaries(SIZES, st.integers(1, 30), min_size=1, max_size=5))
def test_every_task_has_one_place_and_all_cost_no_more_than_each_alone(
    kinds: list[tuple[float, float]], wanted: dict[float, int]
) -> None:
    boxes = boxes_of(*kinds)
    groups = [group for group in groups_of(boxes, *wanted.items()) if group.boxes]
    mix = cheapest_mix(groups, boxes, a_little_longer)
    placed: Counter[str] = Counter()
    for pattern in mix:
        assert sum(float(key) * count for key, count in pattern.tasks.items()) <= boxes[pattern.box].gpus + 1e-6
        for key, count in pattern.tasks.items():
            placed[key] += count * pattern.times
    assert placed == {group.key: group.count for group in groups}
    alone = sum(group.count * min(boxes[b].usd for b in group.boxes) for group in groups)
    assert usd(mix, boxes) <= alone + 1e-6
    assert mix == cheapest_mix(groups, boxes, a_little_longer)


def test_work_grows_with_classes_and_not_with_tasks() -> None:
    boxes = boxes_of(*((gpus, gpus * (1 + n % 50 / 100)) for n in range(100) for gpus in (1, 2, 4, 8)))
    steps = {}
    for each in (4, 400):
        kinds = [(1 + n % 8, each + n) for n in range(24)]
        groups = [
            Group(str(n), gpus, count, tuple(b.place for b in boxes if b.gpus >= gpus and (b.place + n) % 3))
            for n, (gpus, count) in enumerate(kinds)
        ]
        calls = 0

        def counting(tasks: int) -> float:
            nonlocal calls
            calls += 1
            return a_little_longer(tasks)

        mix = cheapest_mix(groups, boxes, counting)
        assert sum(sum(p.tasks.values()) * p.times for p in mix) == sum(count for _, count in kinds)
        steps[each] = calls
    assert max(steps.values()) < 200_000
    assert steps[400] < 4 * steps[4]
