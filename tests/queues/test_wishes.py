"""What a task may ask for itself, and what happens to nonsense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.model import GpuNeed
from fleet.queues.wishes import Wishes, wishes

ONE = GpuNeed(at_least=1, at_most=1)


def need(low: float, high: float) -> GpuNeed:
    return GpuNeed(at_least=low, at_most=high)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([], Wishes(need=ONE)),
        (["mine", "v1:gpus", "gpus"[:3]], Wishes(need=ONE)),
        (["gpus:2"], Wishes(need=need(2, 2))),
        (["gpus: 1-4 "], Wishes(need=need(1, 4))),
        (["gpus:0.5"], Wishes(need=need(0.5, 0.5))),
        (["gpus:0"], Wishes(need=need(0, 0))),
        (["GPUs:3"], Wishes(need=need(3, 3))),
        (["gpu_type:A100", "gpu_memory:40"], Wishes(need=ONE, gpu_type="a100", gpu_memory_gib=40)),
        (["gpu_memory:80GB"], Wishes(need=ONE, gpu_memory_gib=80)),
        (["instances:4", "same_zone:true"], Wishes(need=ONE, instances=4, is_one_zone=True)),
        (["gpu_memory: 79.5 GiB"], Wishes(need=ONE, gpu_memory_gib=79.5)),
    ],
)
def test_tags_say_what_a_task_takes(tags: list[str], expected: Wishes) -> None:
    assert wishes(ONE, tags, {}) == expected


def test_a_property_wins_over_a_tag_and_a_tag_over_the_queue() -> None:
    wished = wishes(ONE, ["gpus:2", "gpu_type:a100"], {"gpus": "4", "other": "gpus:9"})
    assert wished == Wishes(need=need(4, 4), gpu_type="a100")


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("gpus:", "a number of GPUs is 2, 0.5, 0 or 1-4"),
        ("gpus:-1", "a number of GPUs is 2, 0.5, 0 or 1-4"),
        ("gpus:all", "a number of GPUs is 2, 0.5, 0 or 1-4"),
        ("gpus:1e9", "a number of GPUs is 2, 0.5, 0 or 1-4"),
        ("gpus:٣", "a number of GPUs is 2, 0.5, 0 or 1-4"),
        ("gpus:4-1", "a range of GPUs goes up from 1 or more, in whole GPUs: 1-4"),
        ("gpus:0.5-2", "a range of GPUs goes up from 1 or more, in whole GPUs: 1-4"),
        ("gpus:1.5", "a part of a GPU is less than 1; more than one are whole"),
        ("gpus:0.001", "a part of a GPU is at least 0.01"),
        ("gpus:99999", "no machine has more than 1024 GPUs"),
        ("gpu_type:", "a GPU type is a word of its model, as a100, or several, as a100|h100"),
        ("gpu_type:$(rm)", "a GPU type is a word of its model, as a100, or several, as a100|h100"),
        ("instances:0", "a number of instances is a whole one, 1 to 1024"),
        ("instances:2.5", "a number of instances is a whole one, 1 to 1024"),
        ("same_zone:perhaps", "it is true or false"),
        ("gpu_memory:0", "GPU memory is a number of GiB, as 40"),
        ("gpu_memory:lots", "GPU memory is a number of GiB, as 40"),
        ("gpu_memory:999999", "GPU memory is a number of GiB, as 40"),
    ],
)
def test_nonsense_is_ignored_and_says_why(tag: str, why: str) -> None:
    assert wishes(ONE, [tag], {}) == Wishes(need=ONE, ignored=(f"tag {tag!r} is ignored: {why}",))


def test_a_type_may_have_alternatives_in_either_spelling() -> None:
    for tag in ("gpu_type:A100|h100", "gpu_type: a100, H100", "gpu_type:a100|h100|a100"):
        assert wishes(ONE, [tag], {}).gpu_type == "a100|h100"


def test_a_queue_says_which_gpus_its_tasks_want_unless_they_say_otherwise() -> None:
    assert wishes(ONE, [], {}, "t4", 16) == Wishes(need=ONE, gpu_type="t4", gpu_memory_gib=16)
    assert wishes(ONE, ["gpu_type:a100"], {}, "t4", 16) == Wishes(need=ONE, gpu_type="a100", gpu_memory_gib=16)


def test_nonsense_does_not_take_away_a_good_wish() -> None:
    wished = wishes(ONE, ["gpus:2"], {"gpus": "lots"})
    assert (wished.need, len(wished.ignored)) == (need(2, 2), 1)


words = st.sampled_from(["gpus", "gpu_type", "gpu_memory"])


@given(
    st.lists(st.builds(lambda word, value: f"{word}:{value}", words, st.text(max_size=8))),
    st.dictionaries(words, st.text(max_size=8)),
)
def test_any_wish_is_granted_or_explained(tags: list[str], properties: dict[str, str]) -> None:
    wished = wishes(ONE, tags, properties)
    assert 0 <= wished.need.at_least <= wished.need.at_most <= 1024


@given(st.text(alphabet="0123456789.- ", max_size=10))
def test_a_need_that_can_be_read_can_be_written_and_read_again(text: str) -> None:
    try:
        read = GpuNeed.read(text)
    except ValueError:
        return
    assert GpuNeed.read(str(read)) == read
