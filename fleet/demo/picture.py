"""What the demo shows: a live table on a terminal, a line for each event elsewhere, and the closing report."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet.demo.stage import Scene
from fleet.model import Event, Instance, Run

LAST_EVENTS = 8


class Picture:
    """Shows scenes as they come. Use as a context, so that the terminal is left as it was."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=5, transient=True) if console.is_terminal else None
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
        self._console.print(Text(text, style="bold"))

    def show(self, scene: Scene) -> None:
        """One look at everything."""
        self._events += scene.events
        if self._live:
            lines = [_event_line(e) for e in self._events[-LAST_EVENTS:]]
            self._live.update(Group(_tasks(scene), _instances(scene), *lines))
        else:
            for event in scene.events:
                self._console.print(_event_line(event), soft_wrap=True)

    def report(self, scene: Scene) -> None:
        """The closing tables: each task, each instance."""
        self._console.print(_tasks(scene), _instances(scene), *_reasons(scene), soft_wrap=True)


def _tasks(scene: Scene) -> Table:
    table = Table(title="tasks", title_justify="left", expand=False)
    for head in ("task", "queue", "wait", "run", "instance", "GPU", "result"):
        table.add_column(head, no_wrap=True)
    for task, wish in scene.tasks.items():
        run = next((r for r in reversed(scene.runs) if r.task == task), None)
        status = scene.states[task].status if task in scene.states else "?"
        table.add_row(
            wish.name,
            wish.queue,
            _span(run.enqueued_at, run.claimed_at) if run else "",
            _run_time(run) if run else "",
            run.instance if run else "",
            _devices(run, scene) if run else "",
            Text(str(status), style={"completed": "green", "failed": "red"}.get(status, "")),
        )
    return table


def _instances(scene: Scene) -> Table:
    table = Table(title="instances", title_justify="left", expand=False)
    for head in ("instance", "resource", "state", "hours", "simulated $"):
        table.add_column(head, no_wrap=True)
    for instance in scene.instances:
        end = instance.gone_at or datetime.now(instance.requested_at.tzinfo)
        start = instance.launched_at or instance.requested_at
        table.add_row(
            instance.id,
            instance.resource,
            str(instance.state),
            f"{(end - start).total_seconds() / 3600:.4f}",
            f"{instance.usd(end) or 0:.4f}",
        )
    return table


def _reasons(scene: Scene) -> list[Text]:
    """Why each instance was launched, and why it ended: sentences do not fit a table of 100 columns."""
    return [
        Text(f"{i.id}  launched: {i.reason}; ended: {i.end_reason or 'not yet'}", overflow="fold")
        for i in scene.instances
    ]


def _devices(run: Run, scene: Scene) -> str:
    if not run.gpus:
        return "none"
    instance: Instance | None = next((i for i in scene.instances if i.id == run.instance), None)
    numbers = {g.uuid: g.index for g in instance.gpus} if instance else {}
    return ",".join(str(numbers.get(uuid, "?")) for uuid in run.gpus)


def _run_time(run: Run) -> str:
    return _span(run.started_at, run.ended_at) if run.ended_at else "…"


def _span(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.1f} s" if start and end else ""


def _event_line(event: Event) -> Text:
    whom = event.task[:8] if event.task else event.instance or ""
    return Text(f"{event.at.astimezone():%H:%M:%S}  {event.kind:<22} {whom:<12} {event.text}", overflow="fold")
