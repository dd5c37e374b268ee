"""When the recurring calls of a supervisor are due."""

from datetime import UTC, datetime, timedelta

from fleet.supervisor.timetable import Timetable

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def test_a_call_is_due_at_once_and_then_at_its_period():
    table = Timetable(["beat"], T0)
    assert table.take("beat", T0, MINUTE)
    assert not table.take("beat", T0 + 59 * SECOND, MINUTE)
    assert table.take("beat", T0 + MINUTE, MINUTE)


def test_a_call_can_be_hurried():
    table = Timetable(["peek"], T0)
    table.take("peek", T0, MINUTE)
    table.hurry("peek", T0 + SECOND)
    assert table.take("peek", T0 + SECOND, MINUTE)


def test_but_not_more_often_than_it_may_be_repeated():
    table = Timetable(["beat"], T0)
    table.take("beat", T0, MINUTE)
    table.hurry("beat", T0 + SECOND / 10, at_most_every=SECOND)
    assert not table.take("beat", T0 + SECOND / 2, MINUTE)
    assert table.take("beat", T0 + SECOND, MINUTE)
    table.hurry("beat", T0 + 10 * SECOND, at_most_every=SECOND)
    assert table.take("beat", T0 + 10 * SECOND, MINUTE)


def test_a_call_can_be_put_off():
    table = Timetable(["hold"], T0)
    table.put_off("hold", T0 + MINUTE)
    table.put_off("hold", T0 + SECOND)
    assert not table.take("hold", T0 + 59 * SECOND, MINUTE)
    assert table.take("hold", T0 + MINUTE, MINUTE)


def test_hurrying_never_puts_a_call_off():
    table = Timetable(["beat"], T0)
    table.take("beat", T0, SECOND)
    table.hurry("beat", T0, at_most_every=MINUTE)
    assert table.take("beat", T0 + SECOND, SECOND)
