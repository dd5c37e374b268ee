"""The warm minimum: which machine is launched for `min_instances`, and why there are fewer."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.model import Reason, Resource
from fleet.planner.demand import Choice
from fleet.planner.limits import Ledger
from fleet.planner.schedule import key_of


def choose(choices: Sequence[Choice], ledger: Ledger) -> Choice | Reason | None:
    """The first of a resource's offers that nothing forbids; or what forbids the one that it would like best; None: it has
    no offer."""
    why: Reason | None = None
    for choice in choices:
        refusal = choice.backoff or ledger.refusal(choice.offer, choice.resource, None)
        if refusal is None:
            return choice
        why = why or refusal
    return why


def reason_of(resource: Resource) -> Reason:
    """Why one is launched."""
    limit = _limit(resource)
    return Reason(code="min_instances", text=f"{limit} are kept at all times", limit=limit)


def not_kept(resource: Resource, count: int, why: Reason | None) -> Reason:
    """Why there are only so many."""
    cause = why.text if why else "nothing is on offer"
    text = f"resource {resource.name} keeps {count} of {_limit(resource)}: {cause}"
    return Reason(code="min_instances", text=text, limit=why.limit if why else None)


def _limit(resource: Resource) -> str:
    return f"{key_of(resource, f'resources.{resource.name}', 'min_instances')}={resource.min_instances}"
