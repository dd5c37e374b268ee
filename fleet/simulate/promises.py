"""What was promised, held against what really happened: each broken promise in one line that names whom it concerns."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta

from fleet.simulate.bill import Billed, most_at_once, overshoot_usd
from fleet.simulate.setting import Outcome, Setting
from fleet.simulate.truth import Life

# An orphan is ended this long after it was seen, by a call that may have to be repeated.
ORPHAN_GRACE = timedelta(seconds=60)
CALLS_REPEATED = timedelta(seconds=60)
LEAST_MONEY_USD = 1e-6


def broken(setting: Setting, outcome: Outcome) -> tuple[str, ...]:
    """Every promise that this run did not keep."""
    return (*_of_tasks(setting, outcome), *_of_limits(setting, outcome), *_of_machines(setting, outcome))


def _of_tasks(setting: Setting, outcome: Outcome) -> Iterator[str]:
    truth = outcome.truth
    if truth.busy_kills:
        yield f"{truth.busy_kills} tasks were ended with a healthy machine"
    if truth.ran_twice_at_once:
        yield f"{truth.ran_twice_at_once} times a task ran twice at once"
    attempts = Counter(attempt.task for attempt in truth.attempts)
    for task, state in outcome.states.items():
        if state == "lost":
            yield f"task {task} is lost"
        elif state == "failed" and attempts[task] < setting.policy.max_attempts:
            yield f"task {task} was given up after {attempts[task]} attempts"
        elif state == "waiting" and task not in outcome.reasons:
            yield f"task {task} waits, and nobody says why"


def _of_limits(setting: Setting, outcome: Outcome) -> Iterator[str]:
    """Counted on the machines that ran, at every instant."""
    policy, lives = setting.policy, list(outcome.truth.lives.values())
    by_resource: dict[str, list[Billed]] = defaultdict(list)
    by_queue: dict[str | None, list[Billed]] = defaultdict(list)
    for life in lives:
        bill = Billed(life, outcome.ended_at)
        by_resource[life.offer.resource].append(bill)
        by_queue[outcome.launched_for.get(life.instance)].append(bill)
    everything = [bill for bills in by_resource.values() for bill in bills]
    caps: list[tuple[str, int | None, Sequence[Billed]]] = [
        ("budget", policy.budget.max_instances, everything),
        *((f"resources.{r.name}", r.max_instances, by_resource[r.name]) for r in policy.resources),
        *((f"queues.{q.name}", q.max_instances, by_queue[q.name]) for q in policy.queues),
    ]
    for name, cap, bills in caps:
        if cap is not None and (most := most_at_once(bills)) > cap:
            yield f"{most} machines at once; {name}.max_instances is {cap}"
    over = overshoot_usd(policy.budget, everything)
    if over > LEAST_MONEY_USD:
        yield f"${over:.4f} beyond the budget"


def _of_machines(setting: Setting, outcome: Outcome) -> Iterator[str]:
    """Nothing runs that the store does not know, but for the grace of an orphan; and all ends that is not kept."""
    kept = {r.name for r in setting.policy.resources if r.min_instances or r.idle_timeout is None}
    longest = ORPHAN_GRACE + CALLS_REPEATED + setting.faults.list_lag
    for life in outcome.truth.lives.values():
        unknown = unknown_for(life, outcome)
        if unknown > longest:
            yield f"machine {life.instance} ran {unknown.total_seconds():g} s that the store knew nothing of"
        if life.ended_at is None and unknown:
            yield f"machine {life.instance} runs at the end, and the store does not know it"
        if life.ended_at is None and life.offer.resource not in kept:
            yield f"machine {life.instance} runs at the end, and nobody wants it"


def unknown_for(life: Life, outcome: Outcome) -> timedelta:
    """How long it ran while the store did not know it as running."""
    end = life.ended_at or outcome.ended_at
    known_until = outcome.gone_at.get(life.instance, life.launched_at) or end
    return max(end - known_until, timedelta(0))
