"""Launching: the intent is written before the cloud is called, and a call whose answer was lost is repeated with the
same token until the cloud has said yes or no. That is what makes kill -9 at any instant harmless."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from fleet.dispatcher.backoff import Backoffs
from fleet.dispatcher.parts import Parts, Policy
from fleet.dispatcher.settled import settled
from fleet.errors import BadRequest, NotAuthorised, ProviderError
from fleet.model import Event, Instance, Launch, Offer, Reason
from fleet.providers.base import FirstBoot, Launched, LaunchFailed, LaunchOrder

log = logging.getLogger(__name__)


def launch(actions: Sequence[Launch], parts: Parts, policy: Policy, backoffs: Backoffs) -> int:
    """Write the intents of a plan, then ask the clouds. How many of them were refused: another offer may do."""
    if not actions:
        return 0
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
    return _ask(intents, parts, policy, backoffs, {a.instance: a.alternatives for a in actions if a.alternatives})


def resume(instances: Iterable[Instance], parts: Parts, policy: Policy, backoffs: Backoffs) -> None:
    """Ask again for every intent that no cloud has answered: after a crash, a time-out, a throttled call."""
    at = parts.now()
    unanswered = [
        i
        for i in instances
        if i.cloud_id is None and i.terminate_requested_at is None and not backoffs.is_paused(i.offer.provider, at)
    ]
    if unanswered:
        log.info("launches repeated", extra={"instances": [i.id for i in unanswered]})
    _ask(unanswered, parts, policy, backoffs)


def join_token(secret: bytes, instance: str) -> str:
    """The one-time token of this instance. Derived, so that a repeated launch carries the same user-data."""
    return hmac.new(secret, f"join:{instance}".encode(), hashlib.sha256).hexdigest()


def _ask(
    intents: Sequence[Instance],
    parts: Parts,
    policy: Policy,
    backoffs: Backoffs,
    alternatives: Mapping[str, tuple[Offer, ...]] | None = None,
) -> int:
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
        boot = FirstBoot(centre_url=policy.centre_url, join_token=token, certificate_sha256=policy.certificate_sha256)
        order = LaunchOrder(
            instance=intent.id,
            cluster=policy.cluster,
            resource=resource,
            offer=intent.offer,
            first_boot=boot,
            alternatives=(alternatives or {}).get(intent.id, ()),
        )
        by_provider.setdefault(resource.provider, []).append(order)
    return sum([_ask_one(provider, orders, parts, backoffs) for provider, orders in by_provider.items()])


def _ask_one(provider: str, orders: Sequence[LaunchOrder], parts: Parts, backoffs: Backoffs) -> int:
    try:
        answers = parts.providers[provider].launch(orders)
    except (BadRequest, NotAuthorised) as error:
        # Nothing was started and the same call cannot succeed: give the intents up instead of repeating them.
        answers = [LaunchFailed(instance=o.instance, error=error) for o in orders]
    except ProviderError as error:
        log.warning("launch not answered; it will be repeated", extra={"provider": provider, "error": str(error)})
        at = parts.now()
        for order in orders:
            backoffs.fail(order.offer, error, at, order.resource)
        return 0
    at, refused = parts.now(), 0
    _tell_of_credentials(provider, answers, orders[0].offer, parts, backoffs)
    for answer, order in zip(answers, orders, strict=True):
        if isinstance(answer, Launched):
            offer = settled(order.offer, answer.type, answer.zone, order.resource, parts)
            parts.store.note_launched(answer.instance, answer.cloud_id, parts.now(), offer)
            backoffs.answered(order.offer.provider)
        else:
            refused += 1
            backoffs.fail(order.offer, answer.error, at, order.resource)
            for other in answer.others:
                backoffs.fail(replace(order.offer, type=other.type, zone=other.zone), other.error, at, order.resource)
            _close(answer.instance, Reason(code=_code(answer.error), text=str(answer.error)), parts)
    return refused


def _tell_of_credentials(
    provider: str,
    answers: Sequence[Launched | LaunchFailed],
    offer: Offer,
    parts: Parts,
    backoffs: Backoffs,
) -> None:
    """Nobody but an operator can mend them, so it is told when a cloud begins to refuse them, and when it takes them again."""
    refusals = [a.error for a in answers if isinstance(a, LaunchFailed) and isinstance(a.error, NotAuthorised)]
    was_refused = backoffs.is_refused(offer.provider)
    if refusals and not was_refused:
        text = f"{provider} refuses our credentials, nothing is launched there until they work: {refusals[0]}"
        log.error("credentials refused", extra={"provider": provider, "error": str(refusals[0])})
        parts.store.append_events([Event(at=parts.now(), kind="account.refused", text=text)])
    elif was_refused and any(isinstance(a, Launched) for a in answers):
        text = f"{provider} takes our credentials again"
        parts.store.append_events([Event(at=parts.now(), kind="account.accepted", text=text)])


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
