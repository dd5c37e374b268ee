"""Launching: the intent is written before the cloud is called, and a call whose answer was lost is repeated with the
same token until the cloud has said yes or no. That is what makes kill -9 at any instant harmless."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet.dispatcher.backoff import Backoffs
from fleet.dispatcher.parts import Parts, Policy
from fleet.errors import BadRequest, NotAuthorised, ProviderError
from fleet.model import Event, Instance, Launch, Reason
from fleet.providers.base import FirstBoot, Launched, LaunchFailed, LaunchOrder

log = logging.getLogger(__name__)


def launch(actions: Sequence[Launch], parts: Parts, policy: Policy, backoffs: Backoffs) -> None:
    """Write the intents of a plan, then ask the clouds."""
    if not actions:
        return
    at = parts.now()
    intents = [
        Instance(
            id=a.instance,
            cluster=policy.cluster,
            offer=a.offer,
            reason=a.reason,
            requested_at=at,
            standing=a.standing,
        )
        for a in actions
    ]
    parts.store.record_intents(intents)
    _ask(intents, parts, policy, backoffs)


def resume(instances: Iterable[Instance], parts: Parts, policy: Policy, backoffs: Backoffs) -> None:
    """Ask again for every intent that no cloud has answered: after a crash, a time-out, a throttled call."""
    unanswered = [i for i in instances if i.cloud_id is None and i.terminate_requested_at is None]
    if unanswered:
        log.info("launches repeated", extra={"instances": [i.id for i in unanswered]})
    _ask(unanswered, parts, policy, backoffs)


def join_token(secret: bytes, instance: str) -> str:
    """The one-time token of this instance. Derived, so that a repeated launch carries the same user-data."""
    return hmac.new(secret, f"join:{instance}".encode(), hashlib.sha256).hexdigest()


def _ask(intents: Sequence[Instance], parts: Parts, policy: Policy, backoffs: Backoffs) -> None:
    resources = {r.name: r for r in policy.resources}
    by_provider: dict[str, list[LaunchOrder]] = {}
    for intent in intents:
        resource = resources.get(intent.resource)
        if resource is None:
            _close(intent.id, Reason(code="config", text=f"resource {intent.resource} left the fleet file"), parts)
            continue
        token = join_token(parts.join_secret, intent.id)
        expires = parts.now() + resource.boot_timeout
        parts.store.expect(intent.id, hashlib.sha256(token.encode()).hexdigest(), expires)
        boot = FirstBoot(centre_url=policy.centre_url, join_token=token)
        order = LaunchOrder(
            instance=intent.id, cluster=policy.cluster, resource=resource, offer=intent.offer, first_boot=boot
        )
        by_provider.setdefault(resource.provider, []).append(order)
    for provider, orders in by_provider.items():
        _ask_one(provider, orders, parts, backoffs)


def _ask_one(provider: str, orders: Sequence[LaunchOrder], parts: Parts, backoffs: Backoffs) -> None:
    try:
        answers = parts.providers[provider].launch(orders)
    except (BadRequest, NotAuthorised) as error:
        # Nothing was started and the same call cannot succeed: give the intents up instead of repeating them.
        answers = [LaunchFailed(instance=o.instance, error=error) for o in orders]
    except ProviderError as error:
        log.warning("launch not answered; it will be repeated", extra={"provider": provider, "error": str(error)})
        for order in orders:
            backoffs.fail(order.offer, error, parts.now())
        return
    offers = {o.instance: o.offer for o in orders}
    for answer in answers:
        if isinstance(answer, Launched):
            parts.store.note_launched(answer.instance, answer.cloud_id, parts.now())
        else:
            backoffs.fail(offers[answer.instance], answer.error, parts.now())
            _close(answer.instance, Reason(code=_code(answer.error), text=str(answer.error)), parts)


def _close(instance: str, reason: Reason, parts: Parts) -> None:
    at: datetime = parts.now()
    log.warning("launch failed", extra={"instance": instance, "reason": reason.text})
    text = f"launch failed: {reason.text}"
    parts.store.append_events(
        [Event(at=at, kind="instance.launch_failed", text=text, instance=instance, reason=reason)]
    )
    parts.store.note_gone(instance, reason, at)


def _code(error: ProviderError) -> str:
    """NoCapacity -> no_capacity."""
    return "".join("_" + c.lower() if c.isupper() else c for c in type(error).__name__).strip("_")
