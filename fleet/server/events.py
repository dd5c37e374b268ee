"""What tasks report: console lines in their own append-only table; scalars, plots and images beside it.

A batch that is byte for byte the same as one that was stored lately is answered as stored and not stored again: a
client sends it again when the answer was lost, also after the server was killed in between.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from fleet.server import tasks
from fleet.server.call import Call
from fleet.server.records import Doc, dump, iso, load, parse, storable
from fleet.server.tables import BATCH, EVENT, LOG, TASK

SINGLE_VALUE_ITER = -(2**31)  # the SDK's iteration for a value that has none
LONGEST_NAME = 512  # characters of a metric or a variant
_KNOWN = sa.select(BATCH.c.added).where(BATCH.c.digest == sa.bindparam("digest_of"))
_REMEMBER = sa.insert(BATCH)
_APPEND = sa.insert(LOG)
# Only the newest of a (metric, variant, iteration) is kept of these.
_REPLACED = ("plot", "training_debug_image")


def parse_lines(body: bytes) -> list[Any]:
    """The events of an add_batch: JSON objects, one a line, or one list of them.

    Raises:
        ValueError: a line is not JSON.
    """
    lines = [line for line in body.split(b"\n") if line.strip()]
    try:
        events = [parse(line) for line in lines]
    except ValueError:
        events = [parse(body)]  # one object, written over several lines
    return [e for item in events for e in (item if isinstance(item, list) else [item])]


def add(call: Call, events: Sequence[Any], body: bytes) -> tuple[int, dict[str, int]]:
    """Store them; how many, and the reasons for those that cannot be, counted.

    Those of an unknown task are the errors: an agent whose task was deleted goes on to report.
    """
    digest = hashlib.sha256(body).hexdigest()
    is_stamped = bool(events) and all(isinstance(e, dict) and e.get("timestamp") is not None for e in events)
    if is_stamped:
        known = call.connection.execute(_KNOWN, {"digest_of": digest}).scalar()
        if known is not None:
            return int(known), {"Invalid task id": len(events) - known} if known < len(events) else {}
    by_task: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    errors: dict[str, int] = defaultdict(int)
    for event in events:
        if not isinstance(event, dict) or not isinstance(event.get("task"), str) or not event.get("type"):
            errors["Event without task or type"] += 1
        else:
            by_task[event["task"]].append(event)
    added = 0
    for task, reported in sorted(by_task.items()):
        if not _store(call, task, reported):
            errors["Invalid task id"] += len(reported)
        else:
            added += len(reported)
    if is_stamped and added:
        call.connection.execute(_REMEMBER, {"digest": digest, "stored": call.now, "added": added})
    return added, dict(errors)


def _store(call: Call, task: str, events: Sequence[Mapping[str, Any]]) -> bool:
    # The task's row is changed first: it orders those who write to one task at the same time. False: no such task.
    if not tasks.touch(call, task):
        return False
    logs = [_log_row(call, task, e) for e in events if e["type"] == "log"]
    others = [_event_row(call, task, e) for e in events if e["type"] != "log"]
    if logs:
        call.connection.execute(_APPEND, logs)
    for row in others:
        if row["type"] in _REPLACED:
            same = [EVENT.c[name] == row[name] for name in ("task", "type", "metric", "variant", "iter")]
            call.connection.execute(sa.delete(EVENT).where(*same))
    if others:
        call.connection.execute(sa.insert(EVENT), others)
        _remember_last(call, task, others)
    return True


def _log_row(call: Call, task: str, event: Mapping[str, Any]) -> Doc:
    return {
        "task": task,
        "at": _milliseconds(call, event),
        "worker": _text(event, "worker")[:255],
        "level": _text(event, "level")[:32],
        "text": _text(event, "msg"),
    }


def _event_row(call: Call, task: str, event: Mapping[str, Any]) -> Doc:
    value = event.get("value")
    rest = {
        k: v for k, v in event.items() if k not in ("task", "type", "metric", "variant", "iter", "timestamp", "worker")
    }
    return {
        "task": task,
        "type": _text(event, "type")[:64],
        "metric": _text(event, "metric")[:LONGEST_NAME],
        "variant": _text(event, "variant")[:LONGEST_NAME],
        "iter": _whole(event.get("iter")),
        "at": _milliseconds(call, event),
        "worker": _text(event, "worker")[:255],
        "value": float(value) if isinstance(value, int | float) else None,
        "doc": dump(rest),
    }


def _remember_last(call: Call, task: str, rows: Sequence[Doc]) -> None:
    """The task's last_metrics and last_iteration, as its users see them in lists."""
    row = call.connection.execute(sa.select(TASK).where(TASK.c.id == task)).one()
    metrics: Doc = load(row.metrics)
    iteration = row.last_iteration
    for event in rows:
        iteration = max(iteration, event["iter"])
        if event["type"] == "training_stats_scalar" and event["value"] is not None:
            _remember_value(metrics, event)
    tasks.touch(call, task, metrics=dump(metrics), last_iteration=iteration)


def _remember_value(metrics: Doc, event: Doc) -> None:
    by_variant = metrics.setdefault(_hash(event["metric"]), {})
    last = by_variant.get(_hash(event["variant"]))
    value, at = event["value"], event["iter"]
    if last is None:
        last = {"metric": event["metric"], "variant": event["variant"], "count": 0, "mean_value": 0.0}
        last |= {"value": value, "min_value": value, "max_value": value, "min_value_iteration": at}
        last |= {"max_value_iteration": at, "first_value": value}
        by_variant[_hash(event["variant"])] = last
    last["count"] += 1
    last["mean_value"] += (value - last["mean_value"]) / last["count"]
    last["value"] = value
    if value < last["min_value"]:
        last |= {"min_value": value, "min_value_iteration": at}
    if value > last["max_value"]:
        last |= {"max_value": value, "max_value_iteration": at}


def forget(call: Call, task: str) -> None:
    """All that the task ever reported."""
    call.connection.execute(sa.delete(LOG).where(LOG.c.task == task))
    call.connection.execute(sa.delete(EVENT).where(EVENT.c.task == task))


def forget_batches(call: Call, memory: timedelta) -> None:
    call.connection.execute(sa.delete(BATCH).where(BATCH.c.stored < iso(call.at - memory)))


def log_doc(row: sa.Row[Any]) -> Doc:
    return {
        "type": "log",
        "level": row.level,
        "task": row.task,
        "worker": row.worker,
        "msg": row.text,
        "timestamp": row.at,
        "model_event": False,
        "metric": "",
        "variant": "",
    }


def event_doc(row: sa.Row[Any]) -> Doc:
    doc: Doc = {
        "model_event": False,
        **load(row.doc),
        "type": row.type,
        "task": row.task,
        "metric": row.metric,
        "variant": row.variant,
        "iter": row.iter,
        "timestamp": row.at,
        "worker": row.worker,
    }
    if row.value is not None:
        doc["value"] = row.value
    if row.type == "plot":
        doc["plot_len"] = len(doc.get("plot_str") or "")
    return doc


def _hash(name: str) -> str:
    """The API names metrics in last_metrics by a hash, since names may hold dots."""
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    return "" if value is None else storable(str(value))


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and abs(value) < 2**63 else 0


def _milliseconds(call: Call, event: Mapping[str, Any]) -> int:
    return _whole(event.get("timestamp")) or int(call.at.timestamp() * 1000)
