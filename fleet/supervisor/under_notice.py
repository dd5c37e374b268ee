"""PURE: what the cloud's notice changes. Preemption: tasks are asked to save themselves at once, have nearly all the time
that is left, and go back to their queue. Maintenance: the machine drains, and what still runs shortly before it is treated
so too. Rebalance: as the fleet file says (`agent.on_rebalance`)."""

from __future__ import annotations

from datetime import datetime, timedelta

from fleet.model import Notice, OnRebalance, Reason

# Before the cloud's deadline tasks are killed, so that their last lines and their way back to the queue are told in time.
LEFT_FOR_PUTTING_BACK = timedelta(seconds=10)
# Where even half of what is left is less than that.
SHARE_FOR_TASKS = 0.5
# So long before maintenance its tasks are asked to save themselves: what a spot notice gives them.
BEFORE_MAINTENANCE = timedelta(seconds=120)
# A notice without a deadline may come true at any time, but a task that saves itself needs some.
WITHOUT_DEADLINE = timedelta(seconds=120)


def why_leave(notice: Notice | None, on_rebalance: OnRebalance) -> Reason | None:
    """Why this machine pulls no more; None: no notice, or one that changes nothing."""
    if notice is None:
        return None
    if notice.kind == "preemption":
        return Reason(code="preempted", text=notice.text)
    if notice.kind == "maintenance":
        return Reason(code="maintenance", text=notice.text)
    if notice.kind == "rebalance" and on_rebalance is not OnRebalance.IGNORE:
        return Reason(code="rebalance", text=notice.text)
    return None


def first_of(leaves: Reason | None, drain: Reason | None) -> Reason | None:
    """Which of the two is the reason: a preemption is what really ends this machine; else the order was given by somebody."""
    return leaves if leaves and (leaves.code == "preempted" or drain is None) else drain


def may_be_withdrawn(why: Reason | None) -> bool:
    """Clouds cancel maintenance, and a risk passes; then the machine pulls again."""
    return why is not None and why.code in ("maintenance", "rebalance")


def outdoes(why: Reason | None, stopped: Reason) -> bool:
    """Whether a machine that pulls no more must say anew why: the dispatcher counts preemptions."""
    return why is not None and why.code == "preempted" and stopped.code != "preempted"


def stop_at(notice: Notice, on_rebalance: OnRebalance) -> datetime | None:
    """When the tasks are asked to save themselves; None: they may end by themselves."""
    if notice.kind == "preemption" or (notice.kind == "rebalance" and on_rebalance is OnRebalance.REQUEUE):
        return notice.at
    if notice.kind == "maintenance" and notice.deadline:
        return max(notice.at, notice.deadline - BEFORE_MAINTENANCE)
    return None


def times(notice: Notice | None, on_rebalance: OnRebalance, drain_by: datetime | None) -> list[datetime]:
    """When tasks are asked, by the notice and by the order."""
    by_notice = stop_at(notice, on_rebalance) if notice else None
    return [*([by_notice] if by_notice else []), *([drain_by - BEFORE_MAINTENANCE] if drain_by else [])]


def kill_at(notice: Notice | None, on_rebalance: OnRebalance, at: datetime) -> datetime | None:
    """Until when tasks that are asked now may save themselves; None: they are not asked now."""
    asked_at = stop_at(notice, on_rebalance) if notice else None
    if notice is None or asked_at is None or at < asked_at:
        return None
    return at + WITHOUT_DEADLINE if notice.deadline is None else _kill_before(notice.deadline, at)


def kill_by(drain_by: datetime | None, at: datetime) -> datetime | None:
    """The same under an order to drain by then, which is as maintenance at that time; None: they are not asked now."""
    if drain_by is None or at < drain_by - BEFORE_MAINTENANCE:
        return None
    return _kill_before(drain_by, at)


def _kill_before(deadline: datetime, at: datetime) -> datetime:
    left = max(deadline - at, timedelta(0))
    return at + max(left - LEFT_FOR_PUTTING_BACK, SHARE_FOR_TASKS * left)
