"""The name that was meant: one that is near, or all that there are."""

import pytest

from fleet.nearest import nearest, which

QUEUES = ("train", "Big", "prep")


@pytest.mark.parametrize(("given", "meant"), [("trian", "train"), ("TRAIN", "train"), ("big", "Big"), ("gpu", None)])
def test_a_name_that_is_written_alike_is_meant(given: str, meant: str | None) -> None:
    assert nearest(given, QUEUES) == meant


def test_a_line_ends_with_the_name_that_is_meant_or_with_all_there_are() -> None:
    assert which("trains", QUEUES) == "did you mean train?"
    assert which("gpu", QUEUES) == "there are train, Big, prep"
    assert which("gpu", ()) == "there are none"


def test_a_very_long_name_costs_no_more_than_a_name() -> None:
    assert nearest("train" * 1_000_000, QUEUES) is None
