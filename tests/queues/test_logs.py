"""Console lines on their way to the server: whole, in order, within its limits."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.queues.base import LogLine
from fleet.queues.logs import MAX_MESSAGE_BYTES, MAX_PACKET_BYTES, packets

T0 = datetime(2026, 11, 22, tzinfo=UTC)
T0_MS = int(T0.timestamp() * 1000)


def line(ms: int, text: str) -> LogLine:
    return LogLine(at=T0 + timedelta(milliseconds=ms), text=text)


def sent(*lines: LogLine) -> list[dict[str, Any]]:
    events = []
    for packet, count in packets("t", "w", lines):
        batch = [json.loads(raw) for raw in packet.splitlines()]
        assert len(batch) == count
        assert len(packet) <= MAX_PACKET_BYTES + MAX_MESSAGE_BYTES
        events += batch
    return events


def test_a_line_becomes_an_event_as_the_agent_sends_it() -> None:
    expected = {"type": "log", "level": "INFO", "task": "t", "worker": "w", "msg": "hi ü\n", "timestamp": T0_MS}
    assert sent(line(0, "hi ü\n")) == [expected]


def test_nothing_is_sent_for_nothing() -> None:
    assert sent() == []


def test_lines_of_one_millisecond_are_one_event_and_keep_their_ends() -> None:
    events = sent(line(0, "a\n"), line(0, "b"), line(0, "c"), line(5, "d"))
    assert [(e["timestamp"] - T0_MS, e["msg"]) for e in events] == [(0, "a\nb\nc"), (5, "d")]


def test_a_clock_that_steps_back_does_not_turn_the_order() -> None:
    events = sent(line(9, "first"), line(3, "second"), line(12, "third"))
    assert [e["msg"] for e in sorted(events, key=lambda e: e["timestamp"])] == ["first\nsecond", "third"]


def test_a_long_line_is_split_within_the_limit_and_goes_on_in_the_next_millisecond() -> None:
    text = "ü" * 50_000 + "\n" + "x" * 100_000
    events = sent(line(0, text), line(1, "next"))
    assert "".join(e["msg"] for e in events[:-1]) == text
    assert all(len(e["msg"].encode()) <= MAX_MESSAGE_BYTES for e in events)
    times = [e["timestamp"] for e in events]
    assert times == sorted(set(times))


def test_many_lines_are_several_packets() -> None:
    lines = [line(i, "x" * 1000) for i in range(3000)]
    assert len(list(packets("t", "w", lines))) == 4
    assert [e["msg"] for e in sent(*lines)] == ["x" * 1000] * 3000


def test_the_same_lines_make_the_same_packets() -> None:
    lines = [line(i // 3, f"{i}\n") for i in range(50)]
    assert list(packets("t", "w", lines)) == list(packets("t", "w", lines))


@given(st.lists(st.builds(line, st.integers(0, 50), st.text(max_size=20).map(lambda t: t + "\n"))))
@settings(max_examples=100, deadline=None)
def test_all_text_arrives_in_order_whatever_it_is(lines: list[LogLine]) -> None:
    events = sent(*lines)
    text = "".join(e["msg"] for e in sorted(events, key=lambda e: e["timestamp"]))
    assert text == "".join(item.text for item in lines).encode("utf-8", "replace").decode()


def test_bytes_that_were_no_text_are_sent_as_question_marks() -> None:
    assert sent(line(0, "a\udcffb"))[0]["msg"] == "a?b"


def test_a_text_without_any_line_end_is_cut_between_characters() -> None:
    text = "€" * 60_000
    assert "".join(e["msg"] for e in sent(line(0, text))) == text
