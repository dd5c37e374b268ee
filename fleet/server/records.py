"""Small things that every table shares: ids, times as text, JSON columns, and fields picked by their dotted name."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

Doc = dict[str, Any]

MOST_DIGITS = 18  # that every database takes for a whole number
# Half of a pair that JSON can spell and no database can hold: comes from consoles that were cut within a character.
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")


def new_id() -> str:
    """32 hexadecimal characters, as the clients expect ids."""
    return uuid.uuid4().hex


def iso(at: datetime) -> str:
    """An aware UTC time as the API writes it and the tables keep it."""
    return at.isoformat(timespec="microseconds")


def dump(value: Any) -> str:
    """JSON for a `doc` column."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def load(text: str) -> Any:
    return orjson.loads(text)


def parse(data: bytes) -> Any:
    """JSON as the clients write it: also NaN, Infinity and half characters, which Python writes and JSON forbids.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return _clean(json.loads(data.decode("utf-8", "replace"), parse_int=_whole))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _whole(digits: str) -> int | float:
    """What has more digits than any database takes is a number with a point, as it is to orjson."""
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF_CHARACTERS.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_clean(k): _clean(v) for k, v in value.items()}
    return [_clean(v) for v in value] if isinstance(value, list) else value


def storable(text: str) -> str:
    """Without the one character that PostgreSQL cannot store."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def value_at(doc: Mapping[str, Any], field: str) -> Any:
    """The value under a dotted name ("script.requirements"), or None. A name that contains a dot itself is found too."""
    here: Any = doc
    parts = field.split(".")
    for i, part in enumerate(parts):
        if not isinstance(here, Mapping):
            return None
        rest = ".".join(parts[i:])
        if rest in here:
            return here[rest]
        here = here.get(part)
    return here


def pick(doc: Mapping[str, Any], fields: Sequence[str]) -> Doc:
    """Only these fields, dotted ones nested again; of a field that is not there only its parents appear. None = all."""
    if not fields:
        return dict(doc)
    picked: Doc = {}
    for field in fields:
        first, _, rest = field.partition(".")
        if first not in doc:
            continue
        if rest and isinstance(doc[first], Mapping):
            inner = pick(doc[first], [rest])
            picked[first] = {**inner, **picked[first]} if isinstance(picked.get(first), dict) else inner
        else:
            picked[first] = doc[first]
    return picked
