"""What is going on, as plain JSON: the schema of `fleet status --json`. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fleet.model import Budget, GpuNeed, Instance, InstanceState, Queue, QueueView, View

# A pass takes seconds even with slow clouds; after this, what is shown is old and people must know.
PASS_IS_LATE_AFTER = timedelta(seconds=30)


def status_data(
    *,
    cluster: str,
    at: datetime,
    view: View | None,
    instances: Sequence[Instance],
    budget: Budget,
    usd_today: float,
    usd_month: float,
    queues: Sequence[Queue] = (),
    server_url: str = "",
    server_kind: str = "",
) -> dict[str, Any]:
    """All of it. `queues`, `server_url` and `server_kind` are said as long as no pass has seen more (`view` is None).

    `instances` are those that are not gone; unknown prices and counts are None.
    """
    server: dict[str, Any] = {"url": server_url, "kind": server_kind, "ok": None}
    if view:
        server = {"url": view.server_url, "kind": view.server_kind, "ok": view.is_server_ok}
    running = Counter(allocation.queue for i in instances for allocation in i.allocations)
    held = {allocation.task for i in instances for allocation in i.allocations}
    taken = Counter(w.queue for w in view.waiting if w.task in held) if view else Counter[str]()
    return {
        "cluster": cluster,
        "at": at.isoformat(),
        "server": server,
        "queues": [_seen(q, running[q.name], taken[q.name], at) for q in view.queues]
        if view
        else [_unseen(q, running[q.name]) for q in queues],
        "instances": [instance_data(i, at) for i in instances],
        "budget": {
            "instances": len(instances),
            "max_instances": budget.max_instances if view is None or view.max_instances is None else view.max_instances,
            "usd_per_hour": usd_per_hour(instances),
            "max_usd_per_hour": budget.usd_per_hour,
            "usd_today": usd_today,
            "usd_month": usd_month,
            "max_usd_per_day": budget.usd_per_day,
            "max_usd_per_month": budget.usd_per_month,
            "when_spent": budget.when_spent.value,
        },
        "alerts": [*alerts(view, at), *ailments(instances), *twice(instances)],
        "notes": [*([note.text for note in view.notes] if view else []), *remarks(instances)],
    }


def instance_data(instance: Instance, at: datetime) -> dict[str, Any]:
    """One machine. `reason` says why it is ending, or else what keeps it though it is idle, or else why it was launched."""
    offer = instance.offer
    tasks: Mapping[str, list[str]] = _tasks_by_gpu(instance)
    end = instance.gone_at or at
    return {
        "id": instance.id,
        "cloud_id": instance.cloud_id,
        "provider": offer.provider,
        "resource": instance.resource,
        "type": offer.type,
        "zone": offer.zone,
        "market": offer.market.value,
        "state": instance.state.value,
        "reason": (instance.end_reason or instance.kept_awake or instance.reason).text,
        "age_s": _seconds(instance.requested_at, end),
        "idle_s": None if instance.idle_since is None else _seconds(instance.idle_since, end),
        "gpus": [
            {
                "index": gpu.index,
                "uuid": gpu.uuid,
                "model": gpu.model,
                "task": ", ".join(tasks[gpu.uuid]) or None,  # several when it is shared
                "util": gpu.util,
                **({"set_aside": gpu.set_aside.text} if gpu.set_aside else {}),
                **({"sick": gpu.sick} if gpu.sick else {}),
            }
            for gpu in instance.gpus
        ],
        "tasks": [allocation.task for allocation in instance.allocations],
        "usd_per_hour": offer.price_usd_per_hour,
        "usd": instance.usd(at),
    }


def alerts(view: View | None, at: datetime) -> list[str]:
    """What people should look at, one sentence each."""
    if view is None:
        return ["the dispatcher has not finished a pass yet"]
    late = []
    if at - view.at > PASS_IS_LATE_AFTER:
        since = view.at.isoformat(sep=" ", timespec="seconds")
        late = [f"the dispatcher has not finished a pass since {since}; is it running, and does its log say more?"]
    return late + [alert.text for alert in view.alerts]


def ailments(instances: Sequence[Instance]) -> list[str]:
    """What is wrong with GPUs, one sentence for each."""
    found = [(i, gpu) for i in instances if i.state is not InstanceState.GONE for gpu in i.gpus]
    sick = [f"GPU {gpu.index} of instance {i.id} is out of service: {gpu.sick}" for i, gpu in found if gpu.sick]
    return sick + [f"GPU {gpu.index} of instance {i.id}: {gpu.warning}" for i, gpu in found if gpu.warning]


def remarks(instances: Sequence[Instance]) -> list[str]:
    """Why machines are there that one would not expect, one sentence for each."""
    live = [i for i in instances if i.state is not InstanceState.GONE]
    awake = [f"instance {i.id} is {i.kept_awake.text}" for i in live if i.kept_awake]
    leaving = [i for i in live if i.state is InstanceState.DRAINING and i.allocations]
    return awake + [
        f"instance {i.id} drains: what runs there at {i.drain_by:%Y-%m-%d %H:%M:%S} UTC goes back to its queue"
        for i in leaving
        if i.drain_by
    ]


def twice(instances: Sequence[Instance]) -> list[str]:
    """Tasks that two machines say they run: it cannot be (claims are atomic), so a person should look. A gang runs one on each."""
    where = defaultdict(list)
    for instance in instances:
        if instance.state is not InstanceState.GONE:
            for allocation in instance.allocations:
                if allocation.gang is None:
                    where[allocation.task].append(instance.id)
    return [f"task {task} runs on {' and '.join(ids)} at once" for task, ids in where.items() if len(ids) > 1]


def usd_per_hour(instances: Sequence[Instance]) -> float:
    """What those that are not gone cost now; unknown prices count 0."""
    live = (i.offer.price_usd_per_hour for i in instances if i.state is not InstanceState.GONE)
    return sum(price for price in live if price is not None)


def _seen(queue: QueueView, running: int, taken: int, at: datetime) -> dict[str, Any]:
    oldest = queue.oldest_enqueued_at
    return {
        "name": queue.name,
        "queued": queue.queued - taken,
        "oldest_wait_s": None if oldest is None or queue.queued == taken else _seconds(oldest, at),
        "running": running,
        "gpus_per_task": _gpus(queue.need),
        "resources": list(queue.resources),
    }


def _unseen(queue: Queue, running: int) -> dict[str, Any]:
    return {
        "name": queue.name,
        "queued": None,
        "oldest_wait_s": None,
        "running": running,
        "gpus_per_task": _gpus(queue.need),
        "resources": list(queue.resources),
    }


def _gpus(need: GpuNeed) -> float | str:
    """As in the fleet file: 1, 0.5, or "1-4"."""
    if need.at_least != need.at_most:
        return str(need)
    return int(need.at_least) if need.at_least == int(need.at_least) else need.at_least


def _tasks_by_gpu(instance: Instance) -> Mapping[str, list[str]]:
    tasks = defaultdict(list)
    for allocation in instance.allocations:
        for uuid in allocation.gpus:
            tasks[uuid].append(allocation.task)
    return tasks


def _seconds(start: datetime, end: datetime) -> float:
    """Not negative: the clock of a machine may be ahead of ours."""
    return max((end - start).total_seconds(), 0.0)
