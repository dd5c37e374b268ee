"""The circuit breaker (promise P8): when machine after machine of a resource ends without having done anything, no more is
launched of it, and later one at a time, until one does work.

It is read from the history of machines, not from memory, so a restart does not close it. The bound: of an image that never
works a resource launches at most FAILURES machines, those that were on their way when the last of them failed (its
`max_instances` less one), and the probes: PROBES_IN_24_H in 24 hours, whatever waits and however many offers it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.planner.windows import BUDGET_ORDERS

FAILURES = 5  # machines in a row that broke: no longer bad luck
# Or so many times a machine was launched after an earlier one had ended unused: tasks wait that no machine takes.
ROUNDS = 5
FIRST_PAUSE = timedelta(minutes=10)  # doubles with each probe that fails
LONGEST_PAUSE = timedelta(hours=4)
PROBES_IN_24_H = 10  # after 10, 20, 40, 80, 160 minutes, and every 4 hours
# Fleet-wide: so many resources are open, and not one machine launched since has worked anywhere.
OPEN_RESOURCES = 2
# An attempt this long is work, whatever came of it: a broken machine fails its tasks at once.
WORKED_AFTER = timedelta(seconds=30)
# Ends that say nothing about a machine: somebody wanted them, or the cloud took it.
INNOCENT = frozenset(
    {
        "operator",
        "preempted",
        "rebalance",
        "maintenance",
        "max_lifetime",
        "config",
        "centre_refused",
        "return_to_spot",
        "surplus",
        *BUDGET_ORDERS,
    }
)
UNUSED = "idle"  # it was fine, and nobody needed it: only again and again is this a fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one machine, as far as a breaker asks."""

    instance: str
    resource: str
    requested_at: datetime
    ended_at: datetime | None = None  # None: it is there
    has_held: bool = False  # a task, if only for a moment
    has_worked: bool = False
    end_code: str = ""
    end_text: str = ""

    @property
    def has_failed(self) -> bool:
        """It ended and has done nothing, and nobody wanted that."""
        return self.ended_at is not None and not self.has_worked and self.end_code not in INNOCENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """An open breaker."""

    resource: str | None  # None: of the whole fleet
    opened_at: datetime
    until: datetime  # then one machine is tried
    failures: int  # machines in a row
    cause: str  # how the last of them ended
    probe: str | None = None  # the machine that is being tried

    def is_half_open(self, at: datetime) -> bool:
        return at >= self.until and self.probe is None


def judge(trials: Sequence[Trial], at: datetime, reset_at: datetime | None = None) -> Breaker | None:
    """The breaker of one resource; None: it is closed. What was launched before an operator's reset does not count."""
    worked_at = max((t.requested_at for t in trials if t.has_worked), default=None)
    # Those launched together with one that works are not to blame: they found nothing left to do.
    since = [t for t in trials if _is_later(t.requested_at, worked_at) and _is_later(t.requested_at, reset_at)]
    failed = sorted((t for t in since if t.has_failed), key=_end)
    opened_at = _opened_at(failed)
    if opened_at is None:
        return None
    probes = [t for t in failed if t.requested_at >= opened_at]
    last = max(_end(t) for t in failed if _end(t) >= opened_at)
    pause = min(FIRST_PAUSE * 2 ** min(len(probes), 16), LONGEST_PAUSE)
    newest = failed[-1]
    return Breaker(
        resource=newest.resource,
        opened_at=opened_at,
        until=(last if probes else opened_at) + pause,
        failures=len(failed),
        cause=f"{newest.instance} ended: {newest.end_text or newest.end_code or 'unknown'}",
        probe=next((t.instance for t in since if t.ended_at is None and t.requested_at >= opened_at), None),
    )


def judge_fleet(trials: Sequence[Trial], opened: Sequence[Breaker]) -> Breaker | None:
    """The breaker of the whole fleet: several resources are open, and nothing works anywhere."""
    worked_at = max((t.requested_at for t in trials if t.has_worked), default=None)
    ours = [b for b in opened if _is_later(b.opened_at, worked_at)]
    if len(ours) < OPEN_RESOURCES:
        return None
    first = min(ours, key=lambda b: b.until)
    names = ", ".join(sorted(b.resource or "" for b in ours))
    return Breaker(
        resource=None,
        opened_at=max(b.opened_at for b in ours),
        until=first.until,
        failures=sum(b.failures for b in ours),
        cause=f"nothing works on {names}; {first.cause}",
        probe=next((b.probe for b in ours if b.probe), None),
    )


def _is_later(at: datetime, than: datetime | None) -> bool:
    return than is None or at > than


def _end(trial: Trial) -> datetime:
    assert trial.ended_at is not None
    return trial.ended_at


def _opened_at(failed: Sequence[Trial]) -> datetime | None:
    """When these failures, in the order of their ends, were too many."""
    broken = [t for t in failed if t.has_held or t.end_code != UNUSED]
    opened = [_end(broken[FAILURES - 1])] if len(broken) >= FAILURES else []
    round_ended_at: datetime | None = None
    rounds = 0
    for trial in sorted(failed, key=lambda t: (t.requested_at, t.instance)):
        if round_ended_at is not None and trial.requested_at < round_ended_at:
            round_ended_at = min(round_ended_at, _end(trial))
            continue
        rounds, round_ended_at = rounds + 1, _end(trial)
        if rounds == ROUNDS:
            opened.append(_end(trial))
    return min(opened, default=None)
