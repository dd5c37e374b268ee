"""What the demo shows: a live picture on a terminal, a line for each event elsewhere, and the closing report."""

from __future__ import annotations

from datetime import UTC, datetime

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet.demo.stage import Scene
from fleet.model import Event, Instance, Run

SHORT_ID = 8  # characters of a task's id that tell it from the other four
STYLES = {"completed": "green", "failed": "red", "in_progress": "yellow", "busy": "yellow", "ready": "green"}
# Lines of the picture that are not events: two heads with a line below and a blank after each, and the cursor's own.
FRAME_LINES = 7
FEWEST_EVENTS = 3


class Picture:
    """Shows scenes as they come. Use as a context, so that the terminal is left as it was."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._events: list[Event] = []

    def __enter__(self) -> Picture:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        """One line about the demo itself."""
        self._console.print(Text(text, style="bold"), soft_wrap=True)

    def show(self, scene: Scene) -> None:
        """One look at everything."""
        self._events += scene.events
        if self._live:
            room = self._console.height - FRAME_LINES - len(scene.tasks) - len(scene.instances)
            last = self._events[-max(room, FEWEST_EVENTS) :]
            lines = [_event_line(e, scene) for e in last]
            self._live.update(Group(_tasks(scene), Text(), _instances(scene), Text(), *lines))
        else:
            for event in scene.events:
                self._console.print(_event_line(event, scene), soft_wrap=True)

    def report(self, scene: Scene) -> None:
        """The closing tables: each task, each instance and why it came and went."""
        self._console.print(Text(), _tasks(scene), Text(), _instances(scene), Text())
        for line in _reasons(scene):
            self._console.print(line, soft_wrap=not self._console.is_terminal)


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=True, justify="right" if head in ("wait", "run", "hours", "sim. $") else "left")
    return table


def _tasks(scene: Scene) -> Table:
    table = _table("task", "queue", "wait", "run", "instance", "GPU", "result")
    for task, wish in scene.tasks.items():
        run = next((r for r in reversed(scene.runs) if r.task == task), None)
        status = str(scene.states[task].status) if task in scene.states else "?"
        table.add_row(
            wish.name,
            wish.queue,
            _span(run.enqueued_at, run.claimed_at) if run else "",
            _span(run.started_at, run.ended_at or datetime.now(UTC)) if run else "",
            run.instance if run else "",
            _devices(run, scene) if run else "",
            Text(status.replace("in_progress", "running"), style=STYLES.get(status, "")),
        )
    return table


def _instances(scene: Scene) -> Table:
    table = _table("instance", "resource", "GPUs", "state", "hours", "sim. $")
    for instance in scene.instances:
        end = instance.gone_at or datetime.now(UTC)
        start = instance.launched_at or instance.requested_at
        table.add_row(
            instance.id,
            instance.resource,
            str(instance.offer.gpus),
            Text(str(instance.state), style=STYLES.get(instance.state, "")),
            f"{(end - start).total_seconds() / 3600:.4f}",
            f"{instance.usd(end) or 0:.4f}",
        )
    return table


def _reasons(scene: Scene) -> list[Text]:
    """Why each instance was launched, and why it ended: sentences do not fit a table."""
    return [
        Text(f"{i.id}  launched: {_named(str(i.reason), scene)}; ended: {i.end_reason or 'not yet'}")
        for i in scene.instances
    ]


def _devices(run: Run, scene: Scene) -> str:
    if not run.gpus:
        return "none"
    instance: Instance | None = next((i for i in scene.instances if i.id == run.instance), None)
    numbers = {g.uuid: g.index for g in instance.gpus} if instance else {}
    return ",".join(str(numbers.get(uuid, "?")) for uuid in run.gpus)


def _span(start: datetime | None, end: datetime | None) -> str:
    return f"{max((end - start).total_seconds(), 0):.1f} s" if start and end else ""


def _event_line(event: Event, scene: Scene) -> Text:
    """One line, cut at the edge of a terminal; elsewhere whole."""
    wish = scene.tasks.get(event.task or "")
    whom = wish.name if wish else event.instance or (event.task or "")[:SHORT_ID]
    text = f"{event.at.astimezone():%H:%M:%S}  {event.kind:<20} {whom:<13} {_named(event.text, scene)}"
    return Text(text, no_wrap=True, overflow="ellipsis")


def _named(text: str, scene: Scene) -> str:
    """With the tasks' names in place of their ids."""
    for task, wish in scene.tasks.items():
        text = text.replace(task, repr(wish.name))
    return text
