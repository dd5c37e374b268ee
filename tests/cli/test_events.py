"""Events as people read them."""

from __future__ import annotations

from fleet.cli.events import line

CONSOLE = "fleet-wait-gpus: waiting: the driver shows 0 of 1 GPUs\n\x1b[2JPower down.\n"


def test_what_a_machine_printed_before_it_was_given_up_keeps_its_lines_and_moves_no_cursor() -> None:
    event = {"at": "2026-03-01T12:00:00+00:00", "kind": "instance.console", "instance": "i-1", "text": CONSOLE}
    head, *rows = line(event).splitlines()
    assert head.endswith("instance.console      i-1:")
    assert rows == ["    fleet-wait-gpus: waiting: the driver shows 0 of 1 GPUs", "     [2JPower down."]


def test_any_other_event_is_one_line() -> None:
    event = {"at": "2026-03-01T12:00:00+00:00", "kind": "task.requeued", "task": "t1", "text": "its machine\nis gone"}
    assert line(event).endswith("task.requeued         t1: its machine is gone")
