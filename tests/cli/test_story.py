"""`fleet explain`: a story that a researcher understands, whatever became of the task."""

from typing import Any

import pytest

from fleet.cli.story import story

RUN = {
    "instance": "i1",
    "gpus": ["GPU-0"],
    "claimed_at": "2026-11-22T05:14:14+00:00",
    "started_at": "2026-11-22T05:14:15+00:00",
    "ended_at": "2026-11-22T05:14:58+00:00",
    "result": "completed",
    "exit_code": 0,
    "seconds": 44.0,
}
RUNS = RUN | {"ended_at": None, "result": None}


def a_task(*runs: dict[str, Any], waits: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    waiting = {"queue": "train", "reason": {"limit": None} | waits} if waits else None
    return {"task": "t1", "state": "", "waiting": waiting, "runs": list(runs), "events": []} | facts


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (a_task(RUN), "task t1 completed after 44s on i1 (1 GPU)"),
        (a_task(RUNS), "task t1 runs on i1 (1 GPU) for 44s"),
        (a_task(RUNS | {"started_at": None}), "task t1 starts on i1 (1 GPU)"),
        (a_task(RUN | {"result": "failed", "exit_code": 3}), "task t1 failed with exit code 3 after 44s on i1 (1 GPU)"),
        (a_task(RUN | {"result": "stopped", "gpus": []}), "task t1 was stopped by its user after 44s on i1 (CPU only)"),
        (
            a_task(RUN | {"result": "requeued"}),
            "task t1 lost its machine and goes back to its queue after 44s on i1 (1 GPU)",
        ),
        (a_task(RUN | {"result": "requeued"}, RUNS), "task t1 runs on i1 (1 GPU) for 44s, attempt 2"),
        (
            a_task(waits={"code": "booting", "text": "instance i1 is booting and will have room for it"}),
            "task t1 waits in queue train: instance i1 is booting and will have room for it",
        ),
        (a_task(), "task t1 is not in any queue of this fleet now, and never ran here"),
    ],
)
def test_the_first_line_says_where_the_task_stands(data: dict[str, Any], line: str) -> None:
    assert story(data).splitlines()[0] == line


def test_a_limit_that_decided_is_named() -> None:
    waits = {"code": "max_instances", "text": "the resource is full", "limit": "resources.gpu.max_instances=2"}
    assert story(a_task(waits=waits)).splitlines()[1:] == [
        "  the limit that decided: resources.gpu.max_instances=2",
        "  it starts when what runs there ends; a higher limit or priority would make it sooner",
    ]


def test_a_long_reason_is_told_in_lines_of_a_hundred_columns() -> None:
    text = (
        "resource gpu has no instances, the most that resources.gpu.max_instances allows; "
        "its next window opens at Mon 2026-11-23 08:00 UTC"
    )
    told = story(a_task(waits={"code": "max_instances", "text": text}, task="f" * 32)).splitlines()
    assert max(map(len, told)) <= 100
    assert " ".join(line.strip() for line in told[:-1]) == f"task {'f' * 32} waits in queue train: {text}"


def test_what_can_never_fit_says_what_to_do() -> None:
    waits = {"code": "no_fit", "text": "needs 8 GPUs; the largest of its resources (gpu) has 4"}
    assert "it will wait for ever" in story(a_task(waits=waits))


def test_a_failed_task_points_to_its_console() -> None:
    assert "fleet logs t1" in story(a_task(RUN | {"result": "failed"}, state="failed"))


def test_ignored_wishes_are_notes_and_not_part_of_the_log() -> None:
    wish = {"kind": "task.wish_ignored", "text": "tag 'gpus:abc' is ignored", "at": "", "instance": None}
    assert story(a_task(RUN, events=[wish])).splitlines()[1:] == ["  note: tag 'gpus:abc' is ignored"]


def test_a_task_that_lost_too_many_machines_was_given_up() -> None:
    event = {"kind": "task.given_up", "text": "instance i1 is gone (why); attempt 3", "at": "", "instance": None}
    lost = RUN | {"result": "requeued"}
    first, _, last = story(a_task(lost, lost, lost | {"result": "failed"}, events=[event])).splitlines()
    assert first == "task t1 was given up: 3 machines were lost under it"
    assert "given up: instance i1 is gone (why)" in last
