"""A cloud whose answers are broken, and what its provider is held to: an answer or one of our errors, on one line and without a secret;
when the line is whole again the same orders give one machine each, all of them are listed, and all can be ended.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.errors import ProviderError
from fleet.model import Resource
from fleet.providers.base import ConsoleSource, FirstBoot, Launched, LaunchFailed, LaunchOrder, Provider
from tests.providers.breaking import BREAKS, Break, Line
from tests.providers.contract import SECRET, is_one_line
from tests.waiting import wait_for

LOOKING = ("offers", "check")  # verbs whose answers a provider remembers


@dataclass(kw_only=True)
class Cloud:
    """One of them, with the line to it."""

    line: Line
    resource: Resource
    make: Callable[[Path], Provider]
    make_fresh: Callable[[Path], Provider] | None = None  # where `make` gives one that has looked around already
    alive: Callable[[], list[str]]  # the intents of the machines that run, as the cloud itself knows
    secrets: tuple[str, ...] = ()


def held_to_the_promises(
    cloud: Cloud, verb: str, name: str, place: Path, how: Break | None = None, aims_at: str | None = None
) -> object:
    """Do `verb` over a broken line, then all the rest over a whole one. What the verb answered, or the error that it raised.

    `how` it is broken, else as BREAKS has it by name; `aims_at` one call of the verb, else at all.
    """
    cloud.line.breaks = None
    case = f"{verb} {aims_at or ''} {name}"
    provider = cloud.make(place)
    wanted = _orders(cloud, provider, case)
    if verb in ("list", "terminate", "console"):
        provider.launch(wanted)
    ids = [f.cloud_id for f in provider.list("test")] if verb in ("terminate", "console") else []
    fresh = (
        (cloud.make_fresh or cloud.make)(place) if verb in LOOKING else provider
    )  # one that has nothing in its memory
    there = sorted(cloud.alive())
    calls: dict[str, Callable[[], object]] = {
        "offers": lambda: fresh.offers(cloud.resource, datetime.now(UTC) + timedelta(hours=1)),
        "launch": lambda: provider.launch(wanted),
        "list": lambda: provider.list("test"),
        "check": lambda: fresh.check(cloud.resource, datetime.now(UTC)),
        "console": lambda: _console(provider, ids[0]),
        "terminate": lambda: provider.terminate(ids),
    }
    chance = random.Random(case)
    cloud.line.chance, cloud.line.broken, cloud.line.only_first = chance, 0, chance.random() < 0.3
    cloud.line.breaks, cloud.line.aims_at = how or BREAKS[name], aims_at
    said = tried(calls[verb], cloud.secrets)
    cloud.line.breaks = None
    assert cloud.line.broken, "nothing was broken"
    if verb == "launch" and isinstance(said, Sequence):
        assert [a.instance for a in said] == [o.instance for o in wanted]
        assert all(is_one_line(a.error) for a in said if isinstance(a, LaunchFailed))
    if verb == "list" and isinstance(said, Sequence) and how is None and name != "a clock that is two years off":
        assert {m.instance for m in said} <= {o.instance for o in wanted}
    if verb not in ("launch", "terminate"):
        assert sorted(cloud.alive()) == there, "nothing is launched or ended that was not asked for"
    if verb != "terminate":
        _whole_again(cloud, provider, wanted)
        ids = [m.cloud_id for m in provider.list("test")]

    def ended() -> bool:
        tried(lambda: provider.terminate(ids), cloud.secrets)
        return cloud.alive() == []

    wait_for(ended, 20, what="all have ended")
    return said


def tried(call: Callable[[], object], secrets: Sequence[str] = ()) -> object:
    """Its answer, or the one of our errors that it raised. Anything else is a failure of the test."""
    try:
        return call()
    except ProviderError as error:
        refused = error
    assert is_one_line(refused), refused
    assert not [s for s in (SECRET, *secrets) if s in str(refused)], refused
    return refused


class Tracebacks(logging.Handler):
    """Collects what was logged with a traceback: nothing may be."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(record.getMessage())


def _orders(cloud: Cloud, provider: Provider, case: str) -> list[LaunchOrder]:
    offer = provider.offers(cloud.resource, datetime.now(UTC))[0]
    boot = FirstBoot(centre_url="https://fleet.lab:8765", join_token=SECRET)
    return [
        LaunchOrder(instance=each, cluster="test", resource=cloud.resource, offer=offer, first_boot=boot)
        for each in _intents(case)
    ]


def _intents(case: str) -> tuple[str, str]:
    """Of this case alone: a cloud knows an order again, also when its machine has ended."""
    name = hashlib.sha256(case.encode()).hexdigest()
    return name[:8], name[8:16]


def _console(provider: Provider, cloud_id: str) -> str | None:
    assert isinstance(provider, ConsoleSource)
    return provider.console(cloud_id)


def _whole_again(cloud: Cloud, provider: Provider, wanted: list[LaunchOrder]) -> None:
    """The same orders give one machine each; nothing runs that the list does not show."""

    def launched() -> bool:
        said = tried(lambda: provider.launch(wanted), cloud.secrets)
        return isinstance(said, Sequence) and all(isinstance(a, Launched) for a in said)

    intents = sorted(o.instance for o in wanted)
    assert set(cloud.alive()) <= set(intents)
    if sorted(cloud.alive()) != intents:
        wait_for(launched, 20, every_s=0.1, what="the same orders are launched")

    def shown() -> bool:
        said = tried(lambda: provider.list("test"), cloud.secrets)
        return isinstance(said, Sequence) and sorted(m.instance for m in said) == intents

    wait_for(shown, 20, what="the list shows all that runs")
    assert sorted(cloud.alive()) == intents, "no intent has two machines"
