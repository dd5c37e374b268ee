"""What the demo shows: whole in 80 columns, one line an event elsewhere."""

import io
from dataclasses import replace
from datetime import timedelta

from rich.console import Console

from fleet.demo.picture import Picture
from fleet.demo.stage import WISHES, Scene
from fleet.model import Event, Reason, Run, RunResult
from fleet.queues.base import TaskState, TaskStatus
from tests.builders import T0, an_instance

ENDED = Reason(code="idle", text="no task for 3 s")


def a_scene() -> Scene:
    tasks = {f"{n:032x}": wish for n, wish in enumerate(WISHES)}
    instance = replace(an_instance("0a1b2c3d-0"), gone_at=T0 + timedelta(seconds=30), end_reason=ENDED)
    runs = tuple(
        Run(
            task=task,
            instance=instance.id,
            queue=wish.queue,
            worker="w",
            gpus=(),
            enqueued_at=T0,
            claimed_at=T0 + timedelta(seconds=1.5),
            started_at=T0 + timedelta(seconds=2),
            ended_at=T0 + timedelta(seconds=9),
            result=RunResult.COMPLETED,
        )
        for task, wish in tasks.items()
    )
    states = {
        task: TaskState(
            id=task,
            name=wish.name,
            status=TaskStatus(wish.expected),
            status_message="",
            queue_id=None,
            last_worker=None,
            last_update=None,
        )
        for task, wish in tasks.items()
    }
    event = Event(at=T0, kind="task.claimed", text=f"task {0:032x} " + "and so on " * 20, task=f"{0:032x}")
    return Scene(
        tasks=tasks,
        states=states,
        instances=(instance,),
        runs=runs,
        events=(event,) * 3,
        consoles=dict.fromkeys(tasks, ""),
    )


def lines(is_terminal: bool, *, is_report: bool) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=80, height=24, no_color=True, highlight=False)
    picture = Picture(console)
    if is_report:
        picture.report(a_scene())
    else:
        picture.show(a_scene())
        if picture._live:
            console.print(picture._live.renderable)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_live_picture_fits_80_columns_and_24_lines() -> None:
    shown = lines(True, is_report=False)
    assert len(shown) < 24
    assert all(wish.name in "\n".join(shown) for wish in WISHES)
    assert sum(line.endswith("…") for line in shown) == 3, "events are cut at the edge, tables are not"


def test_without_a_terminal_every_event_is_one_whole_line_with_the_tasks_name() -> None:
    shown = lines(False, is_report=False)
    assert len(shown) == 3
    assert "train one" in shown[0]
    assert "0" * 31 not in shown[0]


def test_the_report_tells_each_task_and_why_each_instance_came_and_went() -> None:
    text = "\n".join(lines(False, is_report=True))
    for words in ("1.5 s", "7.0 s", "0a1b2c3d-0", "none", "completed", "failed", "launched:", "ended: no task for 3 s"):
        assert words in text
