"""Windows: when they are open, over changes of the clocks too, and what holds then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.model import Budget, Window
from fleet.schedule import in_force, opened_at, opens_at, read_cron, read_timezone
from tests.builders import T0, a_queue, a_resource

BERLIN = ZoneInfo("Europe/Berlin")
WORK = Window(cron="0 8 * * 1-5", lasts=timedelta(hours=10), timezone="Europe/Berlin", min_instances=4)
MONDAY = datetime(2026, 11, 23, tzinfo=BERLIN)


def at(hour: int, minute: int = 0, day: datetime = MONDAY, fold: int = 0) -> datetime:
    return day.replace(hour=hour, minute=minute, fold=fold).astimezone(UTC)


def is_open(window: Window, time: datetime) -> bool:
    return opened_at(window, time) is not None


def test_a_window_is_open_from_its_time_on_for_as_long_as_it_lasts() -> None:
    seconds = timedelta(seconds=1)
    assert [is_open(WORK, t) for t in (at(8) - seconds, at(8), at(18) - seconds, at(18))] == [False, True, True, False]
    assert opened_at(WORK, at(12)) == at(8)


def test_it_stays_closed_at_the_weekend_and_says_when_it_opens() -> None:
    sunday = MONDAY - timedelta(days=1)
    assert not is_open(WORK, at(12, day=sunday))
    assert opens_at(WORK, at(12, day=sunday)) == at(8)


@pytest.mark.parametrize("day", [datetime(2026, 3, 27, tzinfo=BERLIN), datetime(2026, 3, 30, tzinfo=BERLIN)])
def test_eight_oclock_is_eight_oclock_before_and_after_the_clocks_change(day: datetime) -> None:
    assert opened_at(WORK, at(12, day=day)) == at(8, day=day)
    assert opens_at(WORK, at(1, day=day)) == at(8, day=day)


def test_a_time_that_the_clocks_leave_out_comes_when_they_go_on() -> None:
    night = Window(cron="30 2 * * *", lasts=timedelta(hours=1), timezone="Europe/Berlin")
    spring = datetime(2026, 3, 29, tzinfo=BERLIN)
    assert not is_open(night, at(1, 59, day=spring))
    assert opened_at(night, at(3, 5, day=spring)) == at(3, day=spring)


def test_a_time_that_comes_twice_opens_a_window_once() -> None:
    night = Window(cron="30 2 * * *", lasts=timedelta(minutes=50), timezone="Europe/Berlin")
    autumn = datetime(2026, 10, 25, tzinfo=BERLIN)
    first = at(2, 30, day=autumn)
    assert opened_at(night, at(2, 10, day=autumn, fold=1)) == first
    assert not is_open(night, at(2, 40, day=autumn, fold=1))
    assert opens_at(night, at(2, 10, day=autumn, fold=1)) == at(2, 30, day=autumn + timedelta(days=1))


CRONS = ("0 8 * * 1-5", "30 2 * * *", "0 * * * *", "*/20 1-3 * * *", "15 0 1 * *")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")


@given(
    st.sampled_from(CRONS),
    st.sampled_from(ZONES),
    st.integers(1, 60 * 30).map(lambda minutes: timedelta(minutes=minutes)),
    st.integers(0, 2 * 365 * 24 * 60).map(
        lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    ),
)
def test_looking_back_and_looking_ahead_agree(cron: str, zone: str, lasts: timedelta, time: datetime) -> None:
    window = Window(cron=cron, lasts=lasts, timezone=zone)
    ahead = time - lasts
    last = None
    while (ahead_at := opens_at(window, ahead)) is not None and ahead_at <= time:
        last = ahead = ahead_at
    assert opened_at(window, time) == last


def test_while_a_window_is_open_its_values_hold_and_a_note_names_it() -> None:
    resource = a_resource(max_instances=8, schedule=(WORK,))
    (closed,) = in_force([resource], [], Budget(), at(7)).resources
    found = in_force([resource], [], Budget(), at(9))
    assert (closed.min_instances, found.resources[0].min_instances, found.resources[0].max_instances) == (0, 4, 8)
    assert found.until == at(18)
    assert [note.text for note in found.notes] == [
        "resources.gpu.schedule[0] (0 8 * * 1-5) is open until Mon 2026-11-23 18:00 Europe/Berlin: min_instances 4"
    ]


def test_of_two_open_windows_the_later_one_holds_for_what_it_says() -> None:
    noon = Window(cron="0 12 * * *", lasts=timedelta(hours=1), timezone="Europe/Berlin", max_instances=6)
    late = Window(cron="30 12 * * *", lasts=timedelta(hours=1), timezone="Europe/Berlin", min_instances=5)
    (found,) = in_force([a_resource(schedule=(WORK, noon, late))], [], Budget(), at(12, 45)).resources
    assert (found.min_instances, found.max_instances, found.open_windows) == (5, 6, (0, 1, 2))


def test_queues_and_the_budget_have_windows_too() -> None:
    more = Window(cron="0 8 * * *", lasts=timedelta(hours=1), timezone="Europe/Berlin", headroom=3, max_instances=9)
    found = in_force([], [a_queue(schedule=(more,))], Budget(max_instances=2, schedule=(more,)), at(8, 30))
    assert (found.queues[0].headroom, found.queues[0].max_instances, found.budget.max_instances) == (3, 9, 9)


def test_a_closed_window_that_allows_more_says_when_it_opens() -> None:
    more = Window(cron="0 8 * * 1-5", lasts=timedelta(hours=10), timezone="Europe/Berlin", max_instances=4)
    (closed,) = in_force([a_resource(max_instances=0, schedule=(more,))], [], Budget(), at(7)).resources
    assert closed.opens_at == at(8)


def test_without_a_schedule_nothing_changes_ever() -> None:
    resources, queues, budget = (a_resource(),), (a_queue(),), Budget(max_instances=1)
    found = in_force(resources, queues, budget, T0)
    assert (found.resources, found.queues, found.budget, found.notes, found.until) == (
        resources,
        queues,
        budget,
        (),
        None,
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("0 8 * *", "a cron line has five fields"),
        ("0 0 8 * * 1", "a cron line has five fields"),
        (8, "a cron line has five fields"),
        ("0 25 * * *", "its hour is wrong"),
        ("x 8 * * *", "its minute is wrong"),
        ("0 8 * * MOX", "its day-of-week is wrong"),
        ("0 0 30 2 *", "its day-of-month is wrong"),
    ],
)
def test_a_wrong_cron_line_is_refused_and_told_what_is_right(line: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_cron(line)


def test_a_zone_has_an_iana_name() -> None:
    assert read_timezone("Europe/Berlin") == "Europe/Berlin"
    for wrong in ("Berlin", "", "../etc/passwd", 5):
        with pytest.raises(ValueError, match="an IANA name"):
            read_timezone(wrong)
