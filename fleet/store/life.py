"""What each verb of the store does to an instance: pure, and the same for every store.

First ones stay (a confirmation, an order, a reason), so that each verb may be repeated. A closed ledger is never
reopened: once `gone_at` is set, nothing changes an instance any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from fleet.model import (
    Allocation,
    Gpu,
    Instance,
    InstanceState,
    Offer,
    Reason,
    Run,
    Standing,
    Turns,
    Vitals,
    altered,
)

# Clouds bill by the second, but never less than this.
LEAST_BILLED = timedelta(seconds=60)
OPERATOR = "operator"  # the code of what a person orders
# A heartbeat that was received before one that is kept already is late. One from further back is not: the clock was set.
LATE_WITHIN = timedelta(seconds=60)
# Called after a commit with the kind of change: "enrolled", "beat", "goodbye", "runs_ended", "orders" or "turns". A hint to
# wake a loop early, never the truth; it must return at once, and may be called from any thread.
OnChange = Callable[[str], None]


def ignore_change(_kind: str) -> None:
    """Nobody listens."""


def is_told_at_once(before: Turns, turns: Turns) -> bool:
    """Whether machines should hear of it before their next heartbeat: what they hold, not how shares move with each task."""
    return (before.holds, before.gangs) != (turns.holds, turns.gangs)


def launched(instance: Instance, cloud_id: str, at: datetime, offer: Offer | None = None) -> Instance:
    """The cloud confirmed it, as what was asked for or as `offer`."""
    if instance.gone_at or instance.launched_at:
        return instance
    return altered(instance, cloud_id=cloud_id, launched_at=at, offer=offer or instance.offer)


def draining(instance: Instance, reason: Reason, at: datetime, by: datetime | None = None) -> Instance:
    """The centre asks it to pull no more."""
    if instance.gone_at:
        return instance
    if by and by != instance.drain_by:
        instance = altered(instance, drain_by=by)
    if instance.drain_requested_at:
        return altered(instance, end_reason=reason) if _outdoes(reason, instance.end_reason) else instance
    return altered(instance, drain_requested_at=at, end_reason=instance.end_reason or reason)


def _outdoes(reason: Reason, known: Reason | None) -> bool:
    """What a person orders holds also where fleet would have taken its own order back."""
    return reason.code == OPERATOR and (known is None or known.code not in (OPERATOR, "preempted"))


def undrained(instance: Instance) -> Instance:
    """The order to drain is taken back, if nothing stronger was ordered since. Whether the machine pulls, it says itself."""
    is_ending = instance.state in (InstanceState.GONE, InstanceState.TERMINATING)
    is_by_operator = instance.end_reason is not None and instance.end_reason.code == OPERATOR
    if is_ending or is_by_operator or not instance.drain_requested_at:
        return instance
    return altered(instance, drain_requested_at=None, drain_by=None, end_reason=None)


def standing(instance: Instance, wanted: Standing) -> Instance:
    """These levels hold for it."""
    return instance if instance.gone_at else altered(instance, standing=wanted)


def terminating(instance: Instance, reason: Reason, at: datetime) -> Instance:
    """The centre wants it ended now."""
    if instance.gone_at or instance.terminate_requested_at:
        return instance
    return altered(instance, terminate_requested_at=at, end_reason=instance.end_reason or reason)


def gone(instance: Instance, reason: Reason, at: datetime) -> Instance:
    """Its ledger is closed."""
    if instance.gone_at:
        return instance
    return altered(instance, gone_at=at, end_reason=instance.end_reason or reason)


def may_enroll(instance: Instance, join_hash: str, joined_by: str | None) -> bool:
    """Whether the owner of this join token may (still) present itself; `joined_by` is the token it came with before."""
    is_ending = instance.state in (InstanceState.GONE, InstanceState.TERMINATING)
    # The answer to an enrolment may be lost: the same token works until the machine shows that it has the answer.
    return not is_ending and not instance.heartbeat_at and joined_by in (None, join_hash)


def enrolled(instance: Instance, hostname: str, gpus: Sequence[Gpu], at: datetime) -> Instance:
    """Its supervisor presented the join token."""
    return altered(instance, enrolled_at=instance.enrolled_at or at, hostname=hostname, gpus=tuple(gpus))


def heard(
    instance: Instance,
    *,
    at: datetime,
    is_pulling: bool,
    is_ending: bool,
    reason: Reason | None,
    idle_since: datetime | None,
    allocations: Sequence[Allocation],
    gpus: Sequence[Gpu],
    vitals: Vitals | None = None,
    unsettled: Sequence[str] = (),
) -> Instance:
    """A heartbeat's facts came in. What says how it was before a later one says nothing of how it is."""
    if instance.gone_at or is_late(instance, at):
        return instance
    stops = is_ending or not is_pulling
    if not stops and instance.stopped_pulling_at and instance.state is InstanceState.DRAINING:
        # It resumed, because the order to drain was taken back.
        end_reason = instance.end_reason if instance.drain_requested_at else None
        instance = altered(instance, stopped_pulling_at=None, end_reason=end_reason)
    return altered(
        instance,
        heartbeat_at=max(at, instance.heartbeat_at or at),
        idle_since=idle_since,
        allocations=tuple(allocations),
        gpus=tuple(gpus),
        vitals=vitals,
        unsettled=tuple(unsettled),
        stopped_pulling_at=instance.stopped_pulling_at or (at if not is_pulling else None),
        goodbye_at=instance.goodbye_at or (at if is_ending else None),
        end_reason=_why_it_ends(instance.end_reason, reason if stops else None),
        kept_awake=None if stops else reason,
    )


def is_late(instance: Instance, at: datetime) -> bool:
    """Whether a heartbeat that was received then was overtaken: two threads have answered one machine, which had given up on the
    first answer."""
    heard_at = instance.heartbeat_at
    return heard_at is not None and timedelta(0) < heard_at - at <= LATE_WITHIN


def runs_of(before: Instance, after: Instance, at: datetime, runs: Sequence[Run]) -> Sequence[Run]:
    """What is kept of a heartbeat's attempts: of a late one their ends alone."""
    if after.gone_at:
        return ()
    return [run for run in runs if run.ended_at] if is_late(before, at) else runs


def _why_it_ends(known: Reason | None, said: Reason | None) -> Reason | None:
    """The first that was given, but for one: what the cloud takes back is an interruption, whoever else wanted it gone."""
    return said if said and said.code == "preempted" else known or said


def reported(known: Run | None, run: Run) -> Run:
    """What is kept of an attempt: the newest report, but its first end stays."""
    return known if known and known.ended_at else run


def changes_of_beat(before: Instance, after: Instance, has_ended_run: bool) -> tuple[str, ...]:
    """What a heartbeat changed, for OnChange."""
    stops = (before.goodbye_at, before.stopped_pulling_at) != (after.goodbye_at, after.stopped_pulling_at)
    return ("beat", *(["goodbye"] if stops else []), *(["runs_ended"] if has_ended_run else []))


def usd_for_budgets(instance: Instance, since: datetime) -> float:
    """What one that is gone may have cost since then, US dollars, never too little: see `spent_by_gone`."""
    price = instance.offer.price_usd_per_hour
    if instance.gone_at is None or price is None or not 0 < price < math.inf:
        return 0.0
    least = instance.launched_at + LEAST_BILLED if instance.launched_at else instance.gone_at
    billed = max(instance.gone_at, least) - max(instance.requested_at, since)
    return max(billed.total_seconds(), 0.0) / 3600 * price
