"""What a simulation came to, in numbers: measured on what machines and tasks really did, not on what anybody was told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.model import NOMINAL_MEMORY, Offer, Queue, is_gpu_type
from fleet.simulate.agenda import EPOCH, seconds
from fleet.simulate.bill import Billed, overshoot_usd
from fleet.simulate.setting import Outcome, Setting
from fleet.simulate.trace import Submission, task_id
from fleet.simulate.truth import Life


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The answer of `fleet simulate --json`, key by key."""

    tasks: int
    completed: int
    failed: int  # given up, or never started: nothing in the fleet can hold them
    lost: int
    ran_twice_at_once: int
    busy_kills: int  # tasks under which a healthy machine was ended
    orphan_instance_s: float  # machine time that the store knew nothing of, or no more
    usd: float
    usd_lower_bound: float
    wait_mean_s: float  # from the submission to the first start; tasks that never started do not count
    wait_p50_s: float
    wait_p95_s: float
    makespan_s: float  # from the first submission to the last end of a task
    instances_launched: int
    gpu_hours_billed: float
    gpu_hours_used: float
    budget_overshoot_usd: float  # by the cap that was exceeded most
    wall_s: float  # what the simulation itself took; the one figure that differs from run to run


def figures_of(setting: Setting, outcome: Outcome, wall_s: float) -> Figures:
    """Every figure, rounded to where it means something."""
    truth = outcome.truth
    bills = bills_of(outcome)
    waits = _waits(setting.workload, truth.first_start)
    states = list(outcome.states.values())
    return Figures(
        tasks=len(states),
        completed=states.count("completed"),
        failed=states.count("failed") + states.count("waiting"),
        lost=states.count("lost"),
        ran_twice_at_once=truth.ran_twice_at_once,
        busy_kills=truth.busy_kills,
        orphan_instance_s=round(math.fsum(_orphaned_s(life, outcome) for life in truth.lives.values()), 3),
        usd=round(math.fsum(bill.usd for bill in bills), 4),
        usd_lower_bound=round(lower_bound_usd(setting, outcome.ended_at), 4),
        wait_mean_s=round(math.fsum(waits) / len(waits), 3) if waits else 0.0,
        wait_p50_s=round(quantile(waits, 0.5), 3),
        wait_p95_s=round(quantile(waits, 0.95), 3),
        makespan_s=round(_makespan_s(setting.workload, outcome), 3),
        instances_launched=len(bills),
        gpu_hours_billed=round(math.fsum(bill.hours * bill.gpus for bill in bills), 4),
        gpu_hours_used=round(math.fsum(_used(outcome)), 4),
        budget_overshoot_usd=round(overshoot_usd(setting.policy.budget, bills), 4),
        wall_s=round(wall_s, 3),
    )


def bills_of(outcome: Outcome) -> list[Billed]:
    """One for each machine."""
    nobody = (None, None)
    lives = outcome.truth.lives.values()
    return [Billed(life, outcome.ended_at, *outcome.paid_by.get(life.instance, nobody)) for life in lives]


def lower_bound_usd(setting: Setting, until: datetime = EPOCH) -> float:
    """Every task at the dollar per GPU-hour of the cheapest shape that can hold it: perfectly packed, no boot, no idle.

    What no shape can hold has no price and does not count. Where prices move, each counts as at its lowest until then.
    """
    rates = {
        name: [(offer, _usd_per_gpu_hour(offer, setting.faults.least_price_of(offer, until))) for offer in offers]
        for name, offers in setting.offers.items()
    }
    queues = {queue.name: queue for queue in setting.policy.queues}
    cheapest: dict[tuple[str, float, str | None], float | None] = {}
    total = []
    for job in setting.workload:
        kind = (job.queue, job.gpus, job.gpu_type)
        if kind not in cheapest:
            able = [
                usd
                for name in queues[job.queue].resources
                for offer, usd in rates.get(name, ())
                if _can_hold(offer, job, queues[job.queue])
            ]
            cheapest[kind] = min(able, default=None)
        total.append((cheapest[kind] or 0.0) * job.gpus * job.instances * job.duration_s / 3600)
    return math.fsum(total)


def _can_hold(offer: Offer, job: Submission, queue: Queue) -> bool:
    wish = job.gpu_type or queue.gpu_type
    memory_gib = NOMINAL_MEMORY * (queue.gpu_memory_gib or 0.0)
    has_memory = memory_gib <= (offer.gpu_memory_gib or 0.0)
    return 0 < job.gpus <= offer.gpus and is_gpu_type(wish, offer.gpu_model) and has_memory


def _usd_per_gpu_hour(offer: Offer, usd_per_hour: float | None) -> float:
    return (usd_per_hour or 0.0) / max(offer.gpus, 1)


def _makespan_s(workload: Sequence[Submission], outcome: Outcome) -> float:
    ends = [attempt.ended_at for attempt in outcome.truth.attempts if attempt.ended_at]
    return seconds(max(ends)) - workload[0].submit_s if ends else 0.0


def _waits(workload: Sequence[Submission], first_start: Mapping[str, datetime]) -> list[float]:
    submitted = {task_id(n): job.submit_s for n, job in enumerate(workload)}
    return sorted(seconds(at) - submitted[task] for task, at in first_start.items() if task in submitted)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Between neighbours, in proportion."""
    if not ordered:
        return 0.0
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _used(outcome: Outcome) -> Iterable[float]:
    for attempt in outcome.truth.attempts:
        held = (attempt.ended_at or outcome.ended_at) - attempt.started_at
        yield held / timedelta(hours=1) * attempt.gpus


def _orphaned_s(life: Life, outcome: Outcome) -> float:
    """How long it ran while the store did not know it as running."""
    end = life.ended_at or outcome.ended_at
    known_until = outcome.gone_at.get(life.instance, life.launched_at) or end
    return max((end - known_until).total_seconds(), 0.0)
