"""`schedule:` of a resource, a queue or the budget: windows, each opened by a cron line, in which other limits hold."""

from __future__ import annotations

from datetime import timedelta

from fleet.config.quantities import duration
from fleet.config.section import Section
from fleet.model import Resource, Window
from fleet.schedule import VALUES, read_cron, read_timezone


def read_schedule(part: Section, *keys: str) -> tuple[Window, ...]:
    """The windows under `schedule`, which may set `keys`. What is wrong is noted in `part`."""
    return tuple(_window(each, keys) for each in part.list_of_sections("schedule"))


def check_windows(part: Section, resource: Resource) -> None:
    """No window's minimum is above the maximum that holds with it."""
    for place, window in enumerate(resource.schedule):
        least = resource.min_instances if window.min_instances is None else window.min_instances
        most = resource.max_instances if window.max_instances is None else window.max_instances
        is_own = window.min_instances is not None or window.max_instances is not None
        if is_own and most is not None and least > most:
            part.wrong(
                f"schedule[{place}]", f"min_instances, {least}, is more than max_instances, {most}, while it is open"
            )


def _window(part: Section, keys: tuple[str, ...]) -> Window:
    part.require("cron", "for")
    cron = part.read("cron", read_cron, "* * * * *")
    lasts = part.read("for", _span, timedelta(hours=1))
    timezone = part.read("timezone", read_timezone, "UTC")
    values = {key: part.whole(key, None) for key in VALUES if key in keys}
    if not any(part.has(key) for key in keys):
        part.wrong("", f"changes nothing; give it {' or '.join(keys)}")
    part.no_more()
    return Window(cron=cron, lasts=lasts, timezone=timezone, **values)


def _span(value: object) -> timedelta:
    span = duration(value)
    if not span:
        raise ValueError("must be more than 0s")
    return span
