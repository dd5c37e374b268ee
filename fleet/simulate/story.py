"""What happened in a simulation, event by event: what the fleet wrote into its log, and what the world did to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.model import Event, Plan, Reason
from fleet.simulate.agenda import seconds
from fleet.store.chronicle import ChronicledStore
from fleet.store.memory import MemoryStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One line of the story."""

    at: datetime
    kind: (
        str  # an event's of the fleet's log; `world: ...` is what befell it, `waiting` why tasks have no machine coming
    )
    text: str
    instance: str | None = None
    task: str | None = None
    queue: str | None = None
    reason: Reason | None = None


Listener = Callable[[Scene], None]


class Telling:
    """What the simulation tells its listener."""

    def __init__(self, listener: Listener, now: Callable[[], datetime]) -> None:
        self._listener, self._now = listener, now
        self._waiting: dict[tuple[str, str, str | None], int] = {}

    def world(self, what: str, text: str, instance: str | None = None) -> None:
        """Something befell the fleet that it may not know of."""
        self._listener(Scene(at=self._now(), kind=f"world: {what}", text=text, instance=instance))

    def event(self, event: Event) -> None:
        """The fleet wrote this into its log."""
        self._listener(
            Scene(
                at=self._now(),
                kind=event.kind,
                text=event.text,
                instance=event.instance,
                task=event.task,
                queue=event.queue,
                reason=event.reason,
            )
        )

    def plan(self, made: Plan) -> None:
        """Why tasks wait without a machine that comes for them: once for each cause, and again when it has gone in between."""
        waiting: dict[tuple[str, str, str | None], list[str]] = {}
        reasons: dict[tuple[str, str, str | None], Reason] = {}
        for each in made.waiting:
            if each.instance is None:
                key = (each.queue, each.reason.code, each.reason.limit)
                waiting.setdefault(key, []).append(each.task)
                reasons.setdefault(key, each.reason)
        for key, tasks in waiting.items():
            if key not in self._waiting:
                others = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
                self._listener(
                    Scene(
                        at=self._now(),
                        kind="waiting",
                        text=f"task {tasks[0]}{others} of queue {key[0]}: {reasons[key].text}",
                        task=tasks[0],
                        queue=key[0],
                        reason=reasons[key],
                    )
                )
        self._waiting = {key: len(tasks) for key, tasks in waiting.items()}


class ToldStore(MemoryStore):
    """A memory whose log is told as it is written, and not kept: a run of months has millions of events."""

    def __init__(self, on_change: Callable[[str], None], tell: Callable[[Event], None]) -> None:
        super().__init__(on_change)
        self._tell = tell

    def append_events(self, events: Sequence[Event]) -> None:
        for event in events:
            self._tell(event)


def store_of(on_change: Callable[[str], None], telling: Telling | None) -> MemoryStore | ChronicledStore:
    """The fleet's memory; with a log only where somebody hears of it."""
    return ChronicledStore(ToldStore(on_change, telling.event)) if telling else MemoryStore(on_change)


def as_line(scene: Scene) -> str:
    """For people: when, what, to whom, why."""
    return f"{clock(seconds(scene.at))}  {scene.kind:<24}  {scene.instance or scene.task or '':<18}  {scene.text}"


def as_json(scene: Scene) -> str:
    """One object a line; what is not known is left out."""
    data: dict[str, object] = {"at_s": round(seconds(scene.at), 3), "kind": scene.kind, "text": scene.text}
    named = {"instance": scene.instance, "task": scene.task, "queue": scene.queue}
    data |= {key: value for key, value in named.items() if value is not None}
    if scene.reason:
        data["reason"] = {"code": scene.reason.code, "text": scene.reason.text}
        if scene.reason.limit:
            data["reason"] = {**data["reason"], "limit": scene.reason.limit}  # type: ignore[dict-item]
    return json.dumps(data, ensure_ascii=False)


def clock(at_s: float) -> str:
    """Days and time of day since the start: `2d 03:15:20`."""
    whole = int(at_s)
    days = f"{whole // 86400}d " if whole >= 86400 else ""
    return f"{days}{whole % 86400 // 3600:02}:{whole % 3600 // 60:02}:{whole % 60:02}"
