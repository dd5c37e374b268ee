"""What machines cost, and what became of a task, as plain JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fleet.model import Event, Instance, Run, View


def cost_data(instances: Sequence[Instance], since: datetime, at: datetime) -> dict[str, Any]:
    """Hours and US dollars between the two times, by resource and by instance, the dearest first; unknown prices are None."""
    lines = [_line(i, since, at) for i in instances]
    resources = sorted({line["resource"] for line in lines})
    sums = [_sum(name, [line for line in lines if line["resource"] == name]) for name in resources]
    return {
        "since": since.isoformat(),
        "at": at.isoformat(),
        "usd": _usd(lines),
        "hours": sum(line["hours"] for line in lines),
        "resources": sorted(sums, key=lambda s: (-s["usd"], s["resource"])),
        "instances": sorted(lines, key=lambda line: (-(line["usd"] or 0.0), line["id"])),
    }


def task_data(
    task: str, view: View | None, runs: Sequence[Run], events: Sequence[Event], at: datetime
) -> dict[str, Any] | None:
    """Why it waits, or where it runs and ran, with every event that names it; None if nothing is known of it."""
    waits = [w for w in view.waiting if w.task == task] if view else []
    # The view is as old as the last pass; a machine may have taken the task since.
    is_running = any(run.ended_at is None for run in runs)
    waiting = waits[0] if waits and not is_running else None
    if not (waiting or runs or events):
        return None
    return {
        "task": task,
        "state": "waiting" if waiting else _state(runs),
        "waiting": waiting,
        "runs": [_run(run, at) for run in runs],
        "events": events,
    }


def _line(instance: Instance, since: datetime, at: datetime) -> dict[str, Any]:
    start = max(instance.launched_at or instance.requested_at, since)
    end = min(instance.gone_at or at, at)
    hours = max((end - start).total_seconds(), 0.0) / 3600
    price = instance.offer.price_usd_per_hour
    return {
        "id": instance.id,
        "resource": instance.resource,
        "type": instance.offer.type,
        "market": instance.offer.market,
        "state": instance.state,
        "requested_at": instance.requested_at,
        "gone_at": instance.gone_at,
        "hours": hours,
        "usd_per_hour": price,
        "usd": None if price is None else hours * price,
        "launched_because": instance.reason.text,
        "ended_because": instance.end_reason.text if instance.end_reason else None,
    }


def _sum(resource: str, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    hours = sum(line["hours"] for line in lines)
    return {"resource": resource, "instances": len(lines), "hours": hours, "usd": _usd(lines)}


def _usd(lines: Sequence[dict[str, Any]]) -> float:
    return sum(line["usd"] or 0.0 for line in lines)


def _state(runs: Sequence[Run]) -> str:
    if not runs:
        return "unknown"  # an event names it, no more: it was enqueued and taken back
    last = runs[-1]
    if last.ended_at is None:
        return "running" if last.started_at else "claimed"
    return last.result.value if last.result else "ended"


def _run(run: Run, at: datetime) -> dict[str, Any]:
    """`seconds` from the claim to the end, or until now."""
    return {
        "instance": run.instance,
        "queue": run.queue,
        "worker": run.worker,
        "gpus": run.gpus,
        "enqueued_at": run.enqueued_at,
        "claimed_at": run.claimed_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "result": run.result,
        "exit_code": run.exit_code,
        "seconds": max(((run.ended_at or at) - run.claimed_at).total_seconds(), 0.0),
    }
