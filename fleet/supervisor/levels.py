"""PURE: what the centre wants of this machine in general, from its enrolment on and by each answer since."""

from __future__ import annotations

from dataclasses import replace

from fleet.supervisor.situation import Policy
from fleet.wire import Enrolled, Orders


def first_policy(enrolled: Enrolled) -> Policy:
    """What holds until the first answer to a heartbeat."""
    return Policy(
        queues=enrolled.queues,
        idle_timeout=enrolled.idle_timeout,
        contact_timeout=enrolled.contact_timeout,
        max_lifetime=enrolled.max_lifetime,
        above_gpus=enrolled.above_gpus,
        smaller=enrolled.smaller,
        turns=enrolled.turns,
        boot_timeout=enrolled.boot_timeout,
        on_rebalance=enrolled.agent.on_rebalance,
    )


def policy_under(orders: Orders, policy: Policy) -> Policy:
    """Orders are levels: they say all that is wanted now. What they do not speak of stays as it was at enrolment."""
    return replace(
        policy,
        queues=orders.queues,
        idle_timeout=orders.idle_timeout,
        above_gpus=orders.above_gpus,
        smaller=orders.smaller,
        turns=orders.turns,
    )


def must_look_again(before: Policy, now: Policy) -> bool:
    """Whether a task may be for this machine now that was not, so that it looks into the queues at once."""
    return (before.queues, before.above_gpus, before.turns) != (now.queues, now.above_gpus, now.turns)
