"""Calls that were made and not answered, on disk: a repeated launch must be the same call, word for word.

EC2 knows a call by its token: the same token with the same words gives the same machines, at once and without the lag of its lists.
A call for several intents keeps its words only if they are kept here: an intent that was given up meanwhile, or a fleet file that
changed, would make another call, which would start more machines.

What was answered is kept for a moment too: the dispatcher does not hear of it when another call of the same batch failed, or when it dies.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleet.providers.base import Launched

# EC2 forgets tokens of machines that ended; nobody repeats an intent for so long.
KEEP_S = 2 * 86400
# Longer than EC2's lists lag and a dispatcher takes to come back: from then on the list says whose a machine is.
KEEP_ANSWERS_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One RunInstances, or one CreateFleet with the launch template that it needs."""

    token: str
    resource: str
    intents: tuple[str, ...]  # by launch index
    request: Mapping[str, Any]
    template: Mapping[str, Any] | None = None  # of a CreateFleet: the CreateLaunchTemplate that goes before it
    pools: tuple[Mapping[str, Any], ...] = ()  # among which it chooses


class Journal:
    """One small file for each call that goes on, readable by its owner alone: it holds join tokens."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, call: Call) -> None:
        """On disk when this returns.

        Raises:
            OSError: it is not; the call must not be made.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self.directory / f"{call.token}.part"
        data: dict[str, Any] = {"resource": call.resource, "intents": call.intents, "request": call.request}
        if call.template is not None:
            data |= {"template": call.template, "pools": call.pools}
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.directory / f"{call.token}.json")
        folder = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def forget(self, call: Call) -> None:
        """It was refused, and nothing was started; or its answer is kept."""
        (self.directory / f"{call.token}.json").unlink(missing_ok=True)

    def answer(self, call: Call, launched: Sequence[Launched]) -> None:
        """It was answered so. `forget` comes next.

        Raises:
            OSError: the disk does not take it; the call is still known as one that was not answered.
        """
        part = self.directory / f"{call.token}.part"
        part.write_text(json.dumps([asdict(one) for one in launched]))
        part.replace(self.directory / f"{call.token}.answer")

    def answers(self) -> list[Launched]:
        """What was answered a moment ago. Older ones are removed."""
        found: list[Launched] = []
        for path in sorted(self.directory.glob("*.answer")):
            if time.time() - path.stat().st_mtime > KEEP_ANSWERS_S:
                path.unlink(missing_ok=True)
            else:
                found += _answers(path)
        return found

    def unanswered(self) -> Iterator[Call]:
        """Every call that may have taken effect without our knowing. Files that are none, or very old, are removed."""
        for path in sorted(self.directory.glob("*.json")):
            call = _read(path)
            if call is None or time.time() - path.stat().st_mtime > KEEP_S:
                path.unlink(missing_ok=True)
            else:
                yield call


def _read(path: Path) -> Call | None:
    try:
        data = json.loads(path.read_text())
        return Call(
            token=path.stem,
            resource=data["resource"],
            intents=tuple(data["intents"]),
            request=dict(data["request"]),
            template=data.get("template"),
            pools=tuple(data.get("pools", ())),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # written whole or not at all, so somebody else has touched it: its intents are asked for anew


def _answers(path: Path) -> list[Launched]:
    try:
        return [Launched(**one) for one in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []  # as above: EC2 knows the call by its token
