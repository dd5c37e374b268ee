"""What `fleet doctor` looks at: each check with what it found and, when it is wrong, the fix."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from fleet.assemble.access import access_of
from fleet.assemble.check import Check
from fleet.assemble.cloud_checks import clouds
from fleet.assemble.listening import Listener
from fleet.assemble.prices import refuse_unpriced
from fleet.assemble.providers import providers_of
from fleet.assemble.queue_checks import queues
from fleet.assemble.state import state_of
from fleet.assemble.trust_checks import trust
from fleet.config import Config, Embedded
from fleet.errors import ConfigError, FleetError
from fleet.queues.client import ClearMLServer


def check_runnable(config: Config) -> None:
    """That a dispatcher would start with this fleet file.

    Raises:
        ConfigError: it asks for a provider that is not here, or for money limits on a type without a price.
    """
    refuse_unpriced(config)
    providers = providers_of(config, state_of(config))
    for resource in config.resources:
        if resource.provider == "local":  # the others would ask a cloud
            providers[resource.provider].offers(resource, datetime.now(UTC))


def examine(load: Callable[[], Config], *, is_mending: bool = False) -> Iterator[Check]:
    """Every check, as far as the ones before allow. With `is_mending`, what is missing and can be made is made."""
    try:
        config = load()
    except ConfigError as error:
        yield Check(name="fleet file", found="wrong", fix="; ".join(error.problems))
        return
    counts = (("resource", len(config.resources)), ("queue", len(config.queues)))
    said = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts)
    yield Check(name="fleet file", found=f"{config.origin}: {said}")
    yield _state(config)
    yield from trust(config)
    yield from clouds(config)
    yield from _resources(config)
    yield _agent()
    yield _git()
    is_running = bool(state_of(config).running())
    yield _port(config, is_running)
    yield from _server(config, is_running, is_mending=is_mending)


def _state(config: Config) -> Check:
    state = state_of(config)
    try:
        state.prepare()
    except ConfigError as error:
        return Check(name="state directory", found="not usable", fix=str(error))
    free = shutil.disk_usage(state.directory).free / 1e9
    fix = "free some disk space, or set FLEET_HOME to another disk" if free < 1 else ""
    return Check(name="state directory", found=f"{state.directory}, {free:.0f} GB free", fix=fix)


def _resources(config: Config) -> Iterator[Check]:
    try:
        providers = providers_of(config, state_of(config))
    except ConfigError as error:
        yield Check(name="providers", found="missing", fix=str(error))
        return
    for resource in config.resources:
        name = f"resource {resource.name}"
        try:
            offers = providers[resource.provider].offers(resource, datetime.now(UTC))
        except FleetError as error:
            yield Check(name=name, found="no offers", fix=str(error))
        else:
            said = ", ".join(f"{o.type} ({o.gpus} GPUs)" for o in offers)
            fix = "" if offers else "no type of this resource is offered now; see its provider's documentation"
            yield Check(name=name, found=said or "nothing", fix=fix)
        for finding in providers[resource.provider].check(resource, datetime.now(UTC)):
            yield Check(name=f"{resource.name}: {finding.name}", found=finding.found, fix=finding.fix)


def _agent() -> Check:
    if importlib.util.find_spec("clearml_agent"):
        return Check(name="clearml-agent", found="installed")
    return Check(
        name="clearml-agent", found="not installed", fix="pip install 'fleet[agent]' where local instances run"
    )


def _git() -> Check:
    if shutil.which("git"):
        return Check(name="git", found="installed")
    return Check(name="git", found="not installed", fix="tasks from git repositories need it: apt-get install git")


def _port(config: Config, is_running: bool) -> Check:
    if is_running:
        return Check(name="listen", found=f"{config.listen}: a centre runs")
    try:
        Listener(config.listen).stop()
    except ConfigError as error:
        return Check(name="listen", found="not free", fix=str(error))
    return Check(name="listen", found=f"{config.listen} is free")


def _server(config: Config, is_running: bool, *, is_mending: bool) -> Iterator[Check]:
    if isinstance(config.server, Embedded) and not is_running:
        yield Check(name="ClearML server", found="embedded; starts with the centre")
        return
    try:
        access = access_of(config, "fleet")
        server = ClearMLServer(access)
        found = [*queues(config, server, is_mending=is_mending)]
        yield Check(name="ClearML server", found=f"{access.api_url} answers")
        yield from found
    except FleetError as error:
        yield Check(name="ClearML server", found="no", fix=str(error))
