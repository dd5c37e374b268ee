"""Ending machines: clouds are asked in batches, and the last words of a machine that never worked are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fleet.dispatcher.parts import Parts
from fleet.dispatcher.spending import is_given_time
from fleet.errors import ProviderError
from fleet.model import Event, Instance
from fleet.providers.base import ConsoleSource, Provider

log = logging.getLogger(__name__)

MOST_OF_A_CONSOLE = 4000  # characters, its end


def repeat_terminations(instances: Sequence[Instance], parts: Parts, provider_of: Callable[[Instance], str]) -> None:
    """An order to end stands until the cloud no longer lists the machine."""
    at = parts.now()
    by_provider: dict[str, list[str]] = {}
    for instance in instances:
        if is_given_time(instance, at):
            continue
        if instance.terminate_requested_at and instance.cloud_id:
            by_provider.setdefault(provider_of(instance), []).append(instance.cloud_id)
        elif instance.terminate_requested_at and instance.end_reason:
            parts.store.note_gone(instance.id, instance.end_reason, at)
    for name, cloud_ids in by_provider.items():
        if provider := parts.providers.get(name):
            end(cloud_ids, provider)


def end(cloud_ids: Sequence[str], provider: Provider) -> None:
    """Ask the cloud to end these; if it cannot now, the next pass asks again, because orders are levels."""
    try:
        provider.terminate(cloud_ids)
    except ProviderError as error:
        log.warning("terminate not answered; it will be repeated", extra={"machines": cloud_ids, "error": str(error)})


def keep_console(instance: Instance, parts: Parts, provider: Provider | None) -> None:
    """Into the event log, what a machine printed that is ended because it did not come up: after its end nobody can ask."""
    if instance.enrolled_at or not instance.cloud_id or not isinstance(provider, ConsoleSource):
        return
    try:
        text = provider.console(instance.cloud_id)
    except ProviderError as error:
        log.warning("console not read", extra={"instance": instance.id, "error": str(error)})
        return
    if text:
        event = Event(at=parts.now(), kind="instance.console", text=text[-MOST_OF_A_CONSOLE:], instance=instance.id)
        parts.store.append_events([event])
