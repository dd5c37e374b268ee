"""Tables that fit a terminal, and never cut an id."""

import pytest

from fleet.cli.table import age, local_time, table

TASK = "0123456789abcdef0123456789abcdef"


def test_the_widest_text_gives_way_and_ids_never_do() -> None:
    text = table(("task", "because"), [(TASK, "a long story " * 20)], keep=["task"], width=60)
    head, row = text.splitlines()
    assert (len(row), row[:32], row[-1]) == (60, TASK, "…")
    assert head.split() == ["TASK", "BECAUSE"]


def test_an_id_is_whole_even_where_it_does_not_fit() -> None:
    assert TASK in table(("task", "because"), [(TASK, "a long story")], keep=["task"], width=40)


def test_numbers_stand_to_the_right_and_are_never_cut() -> None:
    rows = [("a", 1), ("b" * 200, 1000)]
    assert [line[-4:] for line in table(("name", "n"), rows, width=30).splitlines()[1:]] == ["   1", "1000"]


def test_a_name_cannot_move_the_cursor() -> None:
    assert "\x1b" not in table(("name",), [("\x1b[2J evil\nname",)])


def test_times_are_local_and_name_their_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert local_time("2026-11-22T05:14:12+00:00") == "2026-11-22 14:14:12+0900"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("seconds", "text"), [(None, "-"), (42, "42s"), (-3, "0s"), (600, "10m"), (11520, "3h12m")])
def test_ages_are_short(seconds: float | None, text: str) -> None:
    assert age(seconds) == text
