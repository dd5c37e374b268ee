"""Which limits hold at a time: what the windows of a fleet file replace while they are open. The one place that reads cron lines.

The planner never sees a schedule at work: it is given the resources, queues and budget that are in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fleet.model import Budget, Queue, Reason, Resource, Window

# Clocks are put forward and back by less than this. Near such a change a look back begins so much later, because the hour
# that comes twice has its times in the first of the two.
CLOCK_CHANGE = timedelta(hours=3)
VALUES = ("min_instances", "max_instances", "headroom")

Holder = TypeVar("Holder", Resource, Queue, Budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The limits of a fleet file at one time."""

    resources: tuple[Resource, ...]
    queues: tuple[Queue, ...]
    budget: Budget
    notes: tuple[Reason, ...] = ()  # one for each open window
    until: datetime | None = None  # when the next window opens or closes; None: there is none


def in_force(resources: Sequence[Resource], queues: Sequence[Queue], budget: Budget, at: datetime) -> InForce:
    """What holds at `at`, and until when."""
    notes: list[Reason] = []
    changes: list[datetime] = []

    def now(holder: Holder, path: str) -> Holder:
        if not holder.schedule:
            return holder
        current, said, changes_at = _opened(holder, path, at)
        notes.extend(said)
        changes.extend(changes_at)
        return current

    return InForce(
        resources=tuple(now(r, f"resources.{r.name}") for r in resources),
        queues=tuple(now(q, f"queues.{q.name}") for q in queues),
        budget=now(budget, "budget"),
        notes=tuple(notes),
        until=min(changes, default=None),
    )


def opened_at(window: Window, at: datetime) -> datetime | None:
    """Since when the window has been open (UTC); None: it is closed."""
    zone = ZoneInfo(window.timezone)
    offsets = {(at + shift).astimezone(zone).utcoffset() for shift in (-CLOCK_CHANGE, timedelta(0), CLOCK_CHANGE)}
    later = at + (timedelta(seconds=1) if len(offsets) == 1 else CLOCK_CHANGE)
    for time in _times(window.cron, later.astimezone(zone), is_back=True):
        if time <= at - window.lasts:
            return None
        if time <= at:
            return time
    return None


def opens_at(window: Window, at: datetime) -> datetime | None:
    """The next time of its cron line after `at` (UTC); None: never."""
    times = _times(window.cron, at.astimezone(ZoneInfo(window.timezone)))
    return next((time for time in times if time > at), None)


def read_cron(value: object) -> str:
    """A cron line of five fields that comes true some time.

    Raises:
        ValueError: it is none; the text says what is allowed.
    """
    from cronsim import CronSimError

    text = " ".join(value.split()) if isinstance(value, str) else ""
    if len(text.split(" ")) != 5:
        raise ValueError("a cron line has five fields: minute hour day month weekday, as 0 8 * * 1-5")
    try:
        first = next(_times(text, datetime(2026, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        fault = str(error).removeprefix("Bad ")
        raise ValueError(
            f"its {fault} is wrong; a cron line is minute hour day month weekday, as 0 8 * * 1-5"
        ) from None
    if first is None:
        raise ValueError("this cron line never comes true")
    return text


def read_timezone(value: object) -> str:
    """An IANA name of a time zone.

    Raises:
        ValueError: there is none of this name.
    """
    try:
        return ZoneInfo(value if isinstance(value, str) else "").key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("a time zone is an IANA name, as Europe/Berlin, America/New_York or UTC") from error


def _opened(holder: Holder, path: str, at: datetime) -> tuple[Holder, list[Reason], list[datetime]]:
    """With the values of its open windows, the later one of two; a note for each; when each opens or closes next."""
    current: Holder = holder
    notes: list[Reason] = []
    changes: list[datetime] = []
    openings: list[tuple[datetime, Window]] = []
    for place, window in enumerate(holder.schedule):
        since = opened_at(window, at)
        if since is None:
            if (next_at := opens_at(window, at)) is not None:
                openings.append((next_at, window))
            continue
        until = since + window.lasts
        changes.append(until)
        values = {key: value for key in VALUES if (value := getattr(window, key)) is not None and hasattr(holder, key)}
        current = replace(current, **values, open_windows=(*current.open_windows, place))
        notes.append(_note(window, f"{path}.schedule[{place}]", values, until))
    changes += [next_at for next_at, _ in openings]
    wider = [next_at for next_at, window in openings if _is_wider(window, current.max_instances)]
    return replace(current, opens_at=min(wider, default=None)), notes, changes


def _is_wider(window: Window, limit: int | None) -> bool:
    return limit is not None and window.max_instances is not None and window.max_instances > limit


def _note(window: Window, path: str, values: dict[str, int], until: datetime) -> Reason:
    said = ", ".join(f"{key} {value}" for key, value in values.items())
    local = until.astimezone(ZoneInfo(window.timezone))
    text = f"{path} ({window.cron}) is open until {local:%a %Y-%m-%d %H:%M} {window.timezone}: {said}"
    return Reason(code="schedule", text=text, limit=path)


def _times(cron: str, start: datetime, *, is_back: bool = False) -> Iterator[datetime]:
    """The times of a cron line from `start` on, or back from it, in UTC. `start` is in the zone that the line is meant in."""
    from cronsim import CronSim  # of the extra `dispatch`; a file without a schedule does not need it

    return (time.astimezone(UTC) for time in CronSim(cron, start, reverse=is_back))
