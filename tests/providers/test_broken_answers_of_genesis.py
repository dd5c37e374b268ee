"""Broken answers of Genesis Cloud, over HTTP: whatever comes back after the call took effect ends in an answer or in one of our errors; no
machine is started twice, forgotten, or ended for it (tests.providers.held). The cloud has no token for a launch, so its list has to tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.providers.genesis.request import who
from tests.providers.breaking import BREAKS, Break, Broken, breaking
from tests.providers.compute_engine import served
from tests.providers.genesis_cloud import TOKEN, GenesisCloud
from tests.providers.held import Cloud, held_to_the_promises
from tests.providers.test_genesis import a_genesis_resource, a_provider

pytestmark = pytest.mark.xdist_group("broken answers")

PATIENCE_S = 1.0
SETTLED_S = 0.2  # so long a launch whose answer was lost is only looked for
Json = dict[str, Any]


def told(change: Callable[[Json], object]) -> Break:
    """The same answer, but for a change in place (or what the change gives instead)."""

    def how(status: int, body: bytes, _: object) -> Broken:
        data = json.loads(body) if body else {}
        other = change(data)
        return Broken(status=status, body=json.dumps(data if other is None else other).encode())

    return how


def rows(**changes: object) -> Break:
    """Every machine of the list, with these fields."""
    return told(lambda data: [row.update(changes) for row in data.get("instances", [])] and None)


def without(*names: str) -> Break:
    return told(lambda data: [row.pop(name, None) for row in data.get("instances", []) for name in names] and None)


def all_with(**changes: object) -> Break:
    return told(lambda data: data.update(changes))


# Fields: "Compute API v1", instances (id, name, status, created_at), pages (total_count), errors ({"code", "message"}).
LIST: dict[str, Break] = {
    "no ids": without("id"),
    "ids that are numbers": rows(id=7),
    "ids that are null": rows(id=None),
    "the same id": rows(id="6b86b273-ff34-4ce1-9d6b-804eff5a3f57"),
    "no names": without("name"),
    "names that are lists": rows(name=["fleet", "test"]),
    "names of others": rows(name="web-1"),
    "no time": without("created_at"),
    "a time that is a number": rows(created_at=1700000000),
    "a time that is null": rows(created_at=None),
    "a time of another calendar": rows(created_at="40.13.2026"),
    "made in the next century": rows(created_at="2100-01-01T00:00:00Z"),
    "a time of no zone": rows(created_at="2026-01-01T00:00:00"),
    "states of next year": rows(status="hibernating"),
    "a text for each machine": told(lambda data: data.update(instances=["i"] * len(data["instances"]))),
    "machines that are a text": all_with(instances="two"),
    "machines that are null": all_with(instances=None),
    "machines that are a mapping": all_with(instances={"0": {}}),
    "no count": told(lambda data: data.pop("total_count") and None),
    "a count that is a text": all_with(total_count="2"),
    "a count that is true": all_with(total_count=True),
    "a count below zero": all_with(total_count=-1),
    "a count without end": all_with(total_count=10**9),
    "a count of none": all_with(total_count=0),
    "a part of a count": all_with(total_count=1.5),
}
LAUNCH: dict[str, Break] = {
    "no machine": told(lambda data: data.pop("instance") and None),
    "a machine that is null": all_with(instance=None),
    "a machine that is a list": all_with(instance=[]),
    "a machine without an id": told(lambda data: data["instance"].pop("id") and None),
    "an id that is a number": told(lambda data: data["instance"].update(id=7)),
    "an empty id": told(lambda data: data["instance"].update(id="")),
    "an error as a success": told(lambda _: {"code": "internal", "message": "two\nlines"}),
}
REFUSALS: dict[str, Break] = {
    "401": lambda s, b, _: Broken(status=401, body=b'{"code": "unauthorized", "message": "The token\\nhas expired."}'),
    "402": lambda s, b, _: Broken(status=402, body=b'{"code": "billing", "message": "no funds"}'),
    "409": lambda s, b, _: Broken(status=409, body=b'{"code": "conflict", "message": "it is being changed"}'),
    "418": lambda s, b, _: Broken(status=418, body=b"[]"),
    "422": lambda s, b, _: Broken(status=422, body=b'{"error": {"code": 7, "message": ["no"]}}'),
    "500 of lists": lambda s, b, _: Broken(status=500, body=b'{"error": [[]], "code": {}, "message": null}'),
    "the line is reset": lambda s, b, _: Broken(status=None, resets=True),
}
STOCK: dict[str, Break] = {
    "no types": told(lambda data: data["availability"].pop("instance_types") and None),
    "types that are texts": told(lambda data: data["availability"].update(instance_types=["a", None, 3])),
    "types that are null": told(lambda data: data["availability"].update(instance_types=None)),
    "availability in words": told(
        lambda data: [t.update(available="perhaps") for t in data["availability"]["instance_types"]] and None
    ),
    "availability of nothing": all_with(availability=None),
}
WORST = ("half", "a page as a success", "empty", "null", "bytes", "503", "403 of a proxy", "to elsewhere", "dropped 0")
# An end is answered by nothing: there is nothing in it to cut or to twist.
OF_NOTHING = [n for n in BREAKS if n not in ("hangs", "half", "empty") and not n.startswith(("dropped", "twisted"))]

GET, POST, STOCK_OF = (
    "GET /compute/v1/instances",
    "POST /compute/v1/instances",
    "GET /compute/v1/availability/{}/instances",
)
REGION = "NORD-NO-KRS-1"
CASES: list[tuple[str, str | None, str, Break]] = [
    *(("list", GET, name, how) for name, how in (LIST | REFUSALS | BREAKS).items()),
    *(("launch", POST, name, how) for name, how in (LAUNCH | REFUSALS | BREAKS).items()),
    *(("launch", GET, name, (LIST | BREAKS)[name]) for name in ("half", "no count", "a count without end", "null")),
    *(("launch", "GET /compute/v1/ssh-keys", name, BREAKS[name]) for name in WORST),
    *(("terminate", None, name, how) for name, how in (REFUSALS | {n: BREAKS[n] for n in OF_NOTHING}).items()),
    *(("offers", STOCK_OF.format(REGION), name, how) for name, how in (STOCK | REFUSALS).items()),
    *(("offers", STOCK_OF.format(REGION), name, BREAKS[name]) for name in WORST),
    *(("check", "GET /compute/v1/images", name, BREAKS[name]) for name in WORST),
]


@pytest.fixture
def genesis() -> Iterator[Cloud]:
    cloud = GenesisCloud()
    cloud.page = 100
    with served(cloud) as url, breaking() as line:
        line.behind = url
        resource = a_genesis_resource(line.url)

        def running() -> list[str]:
            names = [who(i["name"]) for i in cloud.instances.values()]
            return [name[1] for name in names if name]

        yield Cloud(
            line=line,
            resource=resource,
            make=lambda place: a_provider(place, resource, timeout_s=PATIENCE_S, settled_s=SETTLED_S),
            alive=running,
            secrets=(TOKEN,),
        )


@pytest.mark.parametrize(("verb", "call", "name", "how"), CASES, ids=[f"{v}-{n}" for v, _, n, _ in CASES])
def test_genesis(genesis: Cloud, verb: str, call: str | None, name: str, how: Break, tmp_path: Path) -> None:
    held_to_the_promises(genesis, verb, name, tmp_path / "genesis", how, call)
