"""Which instances are late, silent or over age. One of the five independent ends of a machine (design, promise P1)."""

from __future__ import annotations

from datetime import datetime, timedelta

from fleet.model import Instance, InstanceState, Reason, Resource, Snapshot, Terminate

# Longer than the edge's own deadline for lost contact, so that a cut-off supervisor has ended its tasks before we act (P4).
CONTACT_LOST_AFTER = timedelta(seconds=180)
# A machine that said goodbye ends itself; one that is still listed so much later did not manage to.
GOODBYE_GRACE = timedelta(seconds=60)
# At its longest life the edge drains by itself; what still runs so much later is put back, so that the limit is one.
LIFETIME_GRACE = timedelta(minutes=15)
# One that is to drain before it has booted may never boot either.
NOT_ENDING = (InstanceState.BOOTING, InstanceState.DRAINING)


def reap(snapshot: Snapshot) -> tuple[Terminate, ...]:
    """An order to end for every instance that missed a deadline and has not been told yet."""
    found = []
    resources = {r.name: r for r in snapshot.resources}
    deaf_until = snapshot.listening_since or datetime.min.replace(tzinfo=snapshot.at.tzinfo)
    heard_after = snapshot.at - CONTACT_LOST_AFTER
    mortal = {r.name for r in snapshot.resources if r.max_lifetime}
    # Of thousands nearly all are well, and that is quickly seen.
    suspects = [
        i
        for i in snapshot.instances
        if not (i.heartbeat_at and i.heartbeat_at >= heard_after)
        or i.goodbye_at
        or (mortal and i.offer.resource in mortal)
    ]
    for instance in suspects:
        resource = resources.get(instance.offer.resource)
        if instance.terminate_requested_at is None and (reason := overdue(instance, resource, snapshot.at, deaf_until)):
            found.append(Terminate(instance=instance.id, reason=reason))
    return tuple(found)


def overdue(instance: Instance, resource: Resource | None, at: datetime, deaf_until: datetime) -> Reason | None:
    """The deadline that this instance missed, if any. No silence counts from before `deaf_until`."""
    if instance.enrolled_at is None and instance.launched_at and instance.state in NOT_ENDING:
        limit = resource.boot_timeout if resource else timedelta(minutes=15)
        if at - max(_booting_since(instance), deaf_until) > limit:
            told = "`fleet events` has the end of its console, where its cloud keeps one"
            text = f"no supervisor enrolled within {_words(limit)} of the launch; {told}"
            return Reason(code="boot_timeout", text=text, limit=f"resources.{instance.resource}.boot_timeout")
    if instance.goodbye_at and at - instance.goodbye_at > GOODBYE_GRACE:
        text = f"it said goodbye {_words(at - instance.goodbye_at)} ago and is still listed"
        return Reason(code="goodbye_overdue", text=text)
    if instance.enrolled_at and not instance.goodbye_at:
        last = max(instance.heartbeat_at or instance.enrolled_at, deaf_until)
        if at - last > CONTACT_LOST_AFTER:
            return Reason(code="lost_contact", text=f"no heartbeat for {_words(at - last)}")
    # From the intent on: a launch may be confirmed late, and budgets reckon with this end.
    if resource and resource.max_lifetime and at - _wanted_since(instance) > resource.max_lifetime + LIFETIME_GRACE:
        text = (
            f"older than {_words(resource.max_lifetime)}, the longest life that the fleet file allows, and not drained"
        )
        return Reason(code="max_lifetime", text=text, limit=f"resources.{resource.name}.max_lifetime")
    return None


def _booting_since(instance: Instance) -> datetime:
    return instance.launched_at or instance.requested_at


def _wanted_since(instance: Instance) -> datetime:
    return min(instance.requested_at, _booting_since(instance))


def _words(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
