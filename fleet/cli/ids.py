"""Ids by their beginning, as docker and kubectl users type them: the one place where a prefix becomes a whole id."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fleet.cli.operator import Centre
from fleet.errors import CentreRefused, CentreUnreachable, ConfigError
from fleet.nearest import nearest

WHOLE_TASK = re.compile(r"[0-9a-f]{32}")  # ClearML's
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
OF_KIND = {"tasks": "a task", "instances": "an instance"}
KNOWN_BY = "`fleet status` and `fleet events` show ids"


def whole_task(given: str, centre: Centre) -> str:
    """The id of the one task that it begins; `given` itself where the dispatcher knows none or does not answer.

    Raises:
        ConfigError: it cannot be an id.
        CentreRefused: it begins several, or is an instance's.
    """
    if WHOLE_TASK.fullmatch(_checked(given, "tasks")):
        return given
    try:
        found = _matches(given, "tasks", "instances", centre)
    except CentreUnreachable:
        return given  # the server may know more tasks, and says so if it does not
    return next(iter(found), given)


def whole_instances(given: Iterable[str], centre: Centre) -> list[str]:
    """The id of the one instance that each begins.

    Raises:
        ConfigError: one cannot be an id.
        CentreRefused: one begins several, or none.
    """
    found = []
    for one in given:
        matches = _matches(_checked(one, "instances"), "instances", "tasks", centre)
        if not matches:
            there = (each["id"] for each in centre.get("status", "instances")["instances"])
            near = nearest(one, there)
            hint = f"did you mean {near}?" if near else KNOWN_BY
            raise CentreRefused(f"no instance has an id that begins with {one}; {hint}")
        found += matches
    return list(dict.fromkeys(found))


def _matches(given: str, kind: str, other: str, centre: Centre) -> list[str]:
    """The one id, or none.

    Raises:
        CentreRefused: it begins several, or only such of the `other` kind.
    """
    told = centre.get("ids", kind, prefix=given)
    found: list[str] = told[kind]
    if not found and told.get(other):
        raise CentreRefused(f"{told[other][0]} is {OF_KIND[other]}, and {OF_KIND[kind]} is wanted here; {KNOWN_BY}")
    if given in found:
        return [given]
    if len(found) > 1:
        some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise CentreRefused(f"{given} begins the ids of several {kind}: {some}; give more of it")
    return found


def _checked(given: str, kind: str) -> str:
    if not ID.fullmatch(given):
        raise ConfigError(f"{given[:100]!r} cannot be the id of {OF_KIND[kind]}; {KNOWN_BY}")
    return given
