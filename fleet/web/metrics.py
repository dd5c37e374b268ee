"""What Prometheus scrapes: computed at the scrape from what the store says, so that nothing can drift from it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet.model import Budget, Instance, InstanceState, View
from fleet.web.machine_metrics import of_machines
from fleet.web.status import usd_per_hour

CONTENT_TYPE = CONTENT_TYPE_LATEST
NO_BUDGET = Budget()


def metrics_text(
    view: View | None,
    instances: Sequence[Instance],
    usd_today: float,
    at: datetime,
    usd_month: float = 0.0,
    budget: Budget = NO_BUDGET,
) -> bytes:
    """The text format. `instances` are those that are not gone."""
    registry = CollectorRegistry()
    money = [*_of_money(instances, usd_today, usd_month), *_of_budget(budget)]
    registry.register(_Facts([*_of_instances(instances, at), *of_machines(instances), *_of_view(view, at), *money]))
    return generate_latest(registry)


class _Facts(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self._metrics


def _of_instances(instances: Sequence[Instance], at: datetime) -> Iterator[Metric]:
    states = Counter((i.resource, i.state) for i in instances)
    # A state that nobody is in says 0, else its line would end at the last value.
    resources = sorted({i.resource for i in instances})
    rows = {(r, s): float(states[r, s]) for r in resources for s in InstanceState if s is not InstanceState.GONE}
    yield _gauge("fleet_instances", "Instances that are not gone.", ("resource", "state"), rows)

    total: Counter[tuple[str]] = Counter()
    held: Counter[tuple[str]] = Counter()
    sick: Counter[tuple[str]] = Counter()
    for i in instances:
        taken = {uuid for allocation in i.allocations for uuid in allocation.gpus}
        total[(i.resource,)] += len(i.gpus)
        sick[(i.resource,)] += sum(gpu.sick is not None for gpu in i.gpus)
        held[(i.resource,)] += sum(gpu.uuid in taken for gpu in i.gpus)
    yield _gauge("fleet_gpus", "GPUs of instances that have enrolled.", ("resource",), total)
    yield _gauge("fleet_gpus_sick", "GPUs of them that are out of service.", ("resource",), sick)
    yield _gauge("fleet_gpus_allocated", "GPUs that at least one task holds.", ("resource",), held)

    # Of those whose supervisor is expected to speak; a machine that boots has said nothing yet.
    silences = [(at - (i.heartbeat_at or i.enrolled_at)).total_seconds() for i in instances if i.enrolled_at]
    oldest = {(): max(silences, default=0.0)}
    yield _gauge("fleet_heartbeat_age_max_seconds", "Longest silence of an enrolled instance.", (), oldest)


def _of_view(view: View | None, at: datetime) -> Iterator[Metric]:
    if view is None:
        return
    queued = {(q.name,): float(q.queued) for q in view.queues}
    yield _gauge("fleet_queue_tasks", "Tasks that wait, as the last pass saw them.", ("queue",), queued)
    waits = {
        (q.name,): (at - q.oldest_enqueued_at).total_seconds() if q.oldest_enqueued_at else 0.0 for q in view.queues
    }
    yield _gauge("fleet_queue_oldest_wait_seconds", "How long the oldest of them waits.", ("queue",), waits)
    age = (at - view.at).total_seconds()
    yield _gauge("fleet_pass_age_seconds", "Time since the dispatcher's last pass.", (), {(): age})
    is_ok = {(): float(view.is_server_ok)}
    yield _gauge("fleet_server_ok", "1 if the ClearML server answered the last pass.", (), is_ok)
    yield _gauge("fleet_alerts", "Alerts of the last pass.", (), {(): float(len(view.alerts))})


def _of_money(instances: Sequence[Instance], usd_today: float, usd_month: float) -> Iterator[Metric]:
    now = {(): usd_per_hour(instances)}
    yield _gauge(
        "fleet_usd_per_hour", "US dollars an hour that the instances cost now; unknown prices count 0.", (), now
    )
    yield _gauge("fleet_usd_today", "US dollars spent since midnight UTC.", (), {(): usd_today})
    yield _gauge("fleet_usd_month", "US dollars spent since the first of the month, UTC.", (), {(): usd_month})


def _of_budget(budget: Budget) -> Iterator[Metric]:
    """Only the caps that there are."""
    caps = {"hour": budget.usd_per_hour, "day": budget.usd_per_day, "month": budget.usd_per_month}
    rows = {(per,): cap for per, cap in caps.items() if cap is not None}
    yield _gauge("fleet_budget_usd", "US dollars that the fleet may spend per hour, day or month.", ("per",), rows)


def _gauge(name: str, text: str, labels: tuple[str, ...], rows: Mapping[Any, float]) -> Metric:
    """`rows`: values of the labels -> number."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows.items():
        family.add_metric(values, number)
    return family
