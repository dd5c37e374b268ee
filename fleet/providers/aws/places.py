"""Where machines of ours may be: regions and accounts of the fleet file, and those that it named before.

A region that leaves the fleet file keeps its machines until they end; if it were not listed any more, they would be taken for gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from fleet.providers.aws.settings import Place

FILE = "places.json"


def remember(directory: Path, named: Iterable[Place]) -> tuple[Place, ...]:
    """The places of the fleet file, then those of before. Keys are not kept: a place of before is reached by boto3's own chain."""
    current = tuple(dict.fromkeys(named))
    without_keys = {_without_keys(place) for place in current}
    former = tuple(place for place in _read(directory / FILE) if place not in without_keys)
    _write(directory, (*without_keys, *former))
    return (*current, *former)


def forget(directory: Path, place: Place) -> None:
    """Nothing of ours is there any more, and the fleet file does not name it."""
    _write(directory, [kept for kept in _read(directory / FILE) if kept != place])


def _without_keys(place: Place) -> Place:
    return replace(place, access_key=None, secret_key=None, session_token=None)


def _read(path: Path) -> list[Place]:
    try:
        return [Place(**told) for told in json.loads(path.read_text())]
    except FileNotFoundError:
        return []


def _write(directory: Path, places: Iterable[Place]) -> None:
    kept = sorted(({k: v for k, v in asdict(place).items() if v is not None} for place in places), key=json.dumps)
    text = json.dumps(kept)
    path = directory / FILE
    if path.exists() and path.read_text() == text:
        return
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
