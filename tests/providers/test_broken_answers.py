"""Broken answers of Google Cloud, after the call took effect: each ends in an answer or in one of our errors, on one line; when
the line is whole again the same orders give one machine each, all of them are listed, and all can be ended.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import ProviderError
from fleet.model import Resource
from fleet.providers.base import FirstBoot, Launched, LaunchFailed, LaunchOrder, Provider
from tests.providers.breaking import BREAKS, Line, breaking
from tests.providers.compute_engine import ComputeEngine
from tests.providers.compute_engine import served as served_gce
from tests.providers.contract import is_one_line
from tests.providers.test_gcp import a_gcp_resource, a_provider
from tests.waiting import wait_for

pytestmark = pytest.mark.xdist_group("broken answers")

VERBS = ("offers", "launch", "list", "check", "terminate")
CASES = [(verb, name) for verb in VERBS for name in BREAKS if not (name == "hangs" and verb == "check")]
PATIENCE_S = 1.5


@dataclass
class Cloud:
    """One of them, with the line to it."""

    line: Line
    resource: Resource
    make: Callable[[Path], Provider]
    alive: Callable[[], list[str]]  # the intents of the machines that run, as the cloud itself knows


@pytest.fixture
def gcp() -> Iterator[Cloud]:
    cloud = ComputeEngine()
    with served_gce(cloud) as url, breaking() as line:
        line.behind = url
        resource = a_gcp_resource(line.url)

        def running() -> list[str]:
            alive = [i for i in cloud.instances.values() if i.get("status") not in ("STOPPING", "TERMINATED")]
            return [i["labels"]["fleet-instance"] for i in alive]

        yield Cloud(
            line=line,
            resource=resource,
            make=lambda place: a_provider(place, resource, timeout_s=PATIENCE_S),
            alive=running,
        )


def orders(cloud: Cloud, provider: Provider, case: str) -> list[LaunchOrder]:
    offer = provider.offers(cloud.resource, datetime.now(UTC))[0]
    boot = FirstBoot(centre_url="https://fleet.lab:8765", join_token="t-o-k-e-n")
    return [
        LaunchOrder(instance=each, cluster="test", resource=cloud.resource, offer=offer, first_boot=boot)
        for each in _intents(case)
    ]


def _intents(case: str) -> tuple[str, str]:
    """Of this case alone: a cloud knows an order again, also when its machine has ended."""
    name = hashlib.sha256(case.encode()).hexdigest()
    return name[:8], name[8:16]


def tried(call: Callable[[], object]) -> object:
    """Its answer, or the one of our errors that it raised. Anything else is a failure of the test."""
    try:
        return call()
    except ProviderError as error:
        refused = error
    assert is_one_line(refused), refused
    return refused


def held_to_the_promises(cloud: Cloud, verb: str, name: str, place: Path) -> None:
    cloud.line.breaks = None
    provider = cloud.make(place)
    wanted = orders(cloud, provider, f"{verb} {name}")
    if verb in ("list", "terminate"):
        provider.launch(wanted)
    ids = [f.cloud_id for f in provider.list("test")] if verb == "terminate" else []
    fresh = cloud.make(place) if verb in ("offers", "check") else provider  # one that has nothing in its memory
    calls: dict[str, Callable[[], object]] = {
        "offers": lambda: fresh.offers(cloud.resource, datetime.now(UTC) + timedelta(hours=1)),
        "launch": lambda: provider.launch(wanted),
        "list": lambda: provider.list("test"),
        "check": lambda: fresh.check(cloud.resource, datetime.now(UTC)),
        "terminate": lambda: provider.terminate(ids),
    }
    chance = random.Random(f"{verb} {name}")
    cloud.line.chance, cloud.line.broken, cloud.line.only_first = chance, 0, chance.random() < 0.3
    cloud.line.breaks = BREAKS[name]
    said = tried(calls[verb])
    cloud.line.breaks = None
    assert cloud.line.broken, "nothing was broken"
    if verb == "launch" and isinstance(said, Sequence):
        assert [a.instance for a in said] == [o.instance for o in wanted]
        assert all(is_one_line(a.error) for a in said if isinstance(a, LaunchFailed))
    if verb == "list" and isinstance(said, Sequence) and name != "a clock that is two years off":
        assert {m.instance for m in said} <= {o.instance for o in wanted}
    if verb != "terminate":
        _whole_again(cloud, provider, wanted)
        ids = [m.cloud_id for m in provider.list("test")]

    def ended() -> bool:
        tried(lambda: provider.terminate(ids))
        return cloud.alive() == []

    wait_for(ended, 20, what="all have ended")


def _whole_again(cloud: Cloud, provider: Provider, wanted: list[LaunchOrder]) -> None:
    """The same orders give one machine each; nothing runs that the list does not show."""

    def launched() -> bool:
        said = tried(lambda: provider.launch(wanted))
        return isinstance(said, Sequence) and all(isinstance(a, Launched) for a in said)

    intents = sorted(o.instance for o in wanted)
    assert set(cloud.alive()) <= set(intents)
    if sorted(cloud.alive()) != intents:
        wait_for(launched, 20, every_s=0.1, what="the same orders are launched")

    def shown() -> bool:
        said = tried(lambda: provider.list("test"))
        return isinstance(said, Sequence) and sorted(m.instance for m in said) == intents

    wait_for(shown, 20, what="the list shows all that runs")
    assert sorted(cloud.alive()) == intents, "no intent has two machines"


@pytest.mark.parametrize(("verb", "name"), CASES)
def test_gcp(gcp: Cloud, verb: str, name: str, tmp_path: Path) -> None:
    held_to_the_promises(gcp, verb, name, tmp_path / "gcp")
