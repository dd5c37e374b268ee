"""events.*: what tasks report, in and out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from fleet.server import events
from fleet.server.call import LARGEST, Call, reads, writes
from fleet.server.records import Doc
from fleet.server.refusal import events_not_added, invalid
from fleet.server.tables import EVENT, LOG, TASK

LARGEST_PAGE = 10_000  # events in one answer
DEFAULT_PAGE = 500
SAMPLES = 2_000  # points of one curve in a histogram answer, unless the caller asks for more


def add_batch(call: Call) -> Doc:
    try:
        reported = events.parse_lines(call.body)
    except ValueError as error:
        raise events_not_added(f"a line is not JSON: {error}") from error
    added, errors = events.add(call, reported, call.body)
    if reported and not added:
        raise events_not_added(", ".join(errors))
    return {"added": added, "errors": sum(errors.values()), "errors_info": errors}


def add(call: Call) -> Doc:
    event = {k: v for k, v in call.fields.items() if k != "method"}
    added, errors = events.add(call, [event], call.body)
    if not added:
        raise events_not_added(", ".join(errors))
    return {"added": added, "errors": 0, "errors_info": {}}


def get_task_log(call: Call) -> Doc:
    """A page of the console. Without from_timestamp the last lines; navigate_earlier says to which side of it to look."""
    task = call.required("task")
    size = min(max(call.number("batch_size", DEFAULT_PAGE), 1), LARGEST_PAGE)
    of_task = LOG.c.task == task
    total = call.connection.execute(sa.select(sa.func.count()).select_from(LOG).where(of_task)).scalar_one()
    earlier = call.flag("navigate_earlier", True)
    query = sa.select(LOG).where(of_task).limit(size)
    if call.has("from_timestamp"):
        at = call.number("from_timestamp", 0)
        query = query.where(LOG.c.at < at if earlier else LOG.c.at >= at)
    query = query.order_by(*((LOG.c.at.desc(), LOG.c.seq.desc()) if earlier else (LOG.c.at, LOG.c.seq)))
    found = [events.log_doc(row) for row in call.connection.execute(query)]
    is_ascending = not earlier
    if (call.text("order") == "asc") != is_ascending:
        found.reverse()
    return {"events": found, "returned": len(found), "total": total}


def get_task_events(call: Call) -> Doc:
    """All events of a type, in pages: `scroll_id` of one answer asks for the next."""
    task, kind = call.required("task"), call.text("event_type")
    size = min(max(call.number("batch_size", DEFAULT_PAGE), 1), LARGEST_PAGE)
    offset = _scroll_offset(call)
    table = LOG if kind == "log" else EVENT
    query = sa.select(table).where(table.c.task == task)
    if kind and kind != "log":
        query = query.where(EVENT.c.type == kind)
    query = _of_metrics(query, call) if kind != "log" else query
    total = call.connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()
    is_ascending = call.text("order") == "asc"
    order = (table.c.at, table.c.seq) if is_ascending else (table.c.at.desc(), table.c.seq.desc())
    rows = call.connection.execute(query.order_by(*order).limit(size).offset(offset)).all()
    found = [events.log_doc(row) if kind == "log" else events.event_doc(row) for row in rows]
    return {"returned": len(found), "total": total, "scroll_id": str(offset + len(found)), "events": found}


def get_task_plots(call: Call) -> Doc:
    """The plots of the last `iters` iterations of each metric and variant."""
    query = sa.select(EVENT).where(EVENT.c.task == call.required("task"), EVENT.c.type == "plot")
    rows = call.connection.execute(_of_metrics(query, call).order_by(EVENT.c.iter.desc(), EVENT.c.seq)).all()
    kept = _last_iterations(rows, max(call.number("iters", 1), 1))
    return {"plots": kept, "returned": len(kept), "total": len(rows), "scroll_id": "0"}


def debug_images(call: Call) -> Doc:
    """For each asked metric its iterations, newest first, with their images. A scroll has nothing more to give."""
    answers = []
    for wish in call.mappings("metrics"):
        task, metric = wish.get("task"), wish.get("metric")
        if not isinstance(task, str):
            raise invalid("metrics", "expected a list of {task, metric}")
        query = sa.select(EVENT).where(EVENT.c.task == task, EVENT.c.type == "training_debug_image")
        if isinstance(metric, str):
            query = query.where(EVENT.c.metric == metric)
        if variants := _variants(wish):
            query = query.where(EVENT.c.variant.in_(variants))
        by_iter: dict[int, list[Doc]] = defaultdict(list)
        if not call.has("scroll_id") or call.flag("refresh"):
            for row in call.connection.execute(query.order_by(EVENT.c.iter.desc(), EVENT.c.seq)):
                by_iter[row.iter].append(events.event_doc(row))
        newest = list(by_iter.items())[: max(call.number("iters", 1), 1)]
        answers.append({"task": task, "iterations": [{"iter": i, "events": e} for i, e in newest]})
    return {"metrics": answers, "scroll_id": call.text("scroll_id") or "0"}


def scalar_metrics_iter_histogram(call: Call) -> Doc:
    """{metric: {variant: {name, x, y}}}: x by iteration, or by time with key "timestamp" / "iso_time"."""
    task, key = call.required("task"), call.text("key") or "iter"
    query = sa.select(EVENT).where(EVENT.c.task == task, EVENT.c.type == "training_stats_scalar")
    query = query.where(EVENT.c.iter != events.SINGLE_VALUE_ITER, EVENT.c.value.is_not(None))
    column = EVENT.c.iter if key == "iter" else EVENT.c.at
    curves: dict[str, dict[str, Doc]] = defaultdict(dict)
    for row in call.connection.execute(_of_metrics(query, call).order_by(column, EVENT.c.seq)):
        curve = curves[row.metric].setdefault(row.variant, {"name": row.variant, "x": [], "y": []})
        curve["x"].append(row.iter if key == "iter" else row.at)
        curve["y"].append(row.value)
    samples = max(call.number("samples", SAMPLES), 2)
    for variants in curves.values():
        for curve in variants.values():
            curve["x"], curve["y"] = _thinned(curve["x"], samples), _thinned(curve["y"], samples)
    return dict(curves)


def get_task_single_value_metrics(call: Call) -> Doc:
    ids = call.texts("tasks")
    names = {
        row.id: row.name for row in call.connection.execute(sa.select(TASK.c.id, TASK.c.name).where(TASK.c.id.in_(ids)))
    }
    query = sa.select(EVENT).where(EVENT.c.task.in_(ids), EVENT.c.iter == events.SINGLE_VALUE_ITER)
    query = query.where(EVENT.c.type == "training_stats_scalar").order_by(EVENT.c.seq)
    values: dict[str, dict[tuple[str, str], Doc]] = defaultdict(dict)
    for row in call.connection.execute(query):  # the last of each name wins
        value = {"metric": row.metric, "variant": row.variant, "value": row.value, "timestamp": row.at}
        values[row.task][row.metric, row.variant] = value
    found = [{"task": t, "task_name": names.get(t, ""), "values": list(v.values())} for t, v in values.items()]
    return {"tasks": found}


def get_task_latest_scalar_values(call: Call) -> Doc:
    task = call.required("task")
    query = sa.select(EVENT).where(EVENT.c.task == task, EVENT.c.type == "training_stats_scalar")
    last: dict[str, dict[str, Doc]] = defaultdict(dict)
    for row in call.connection.execute(query.order_by(EVENT.c.iter, EVENT.c.seq)):
        last[row.metric][row.variant] = {
            "name": row.variant,
            "last_value": row.value,
            "last_timestamp": row.at,
        }
    return {"metrics": [{"name": name, "variants": list(v.values())} for name, v in last.items()]}


def _of_metrics(query: sa.Select[Any], call: Call) -> sa.Select[Any]:
    """Only the metrics (and variants) that the call names; all if it names none."""
    wishes = call.fields.get("metrics")
    if not isinstance(wishes, list) or not wishes:
        return query
    terms: list[sa.ColumnElement[bool]] = []
    for wish in wishes:
        name = wish.get("metric") if isinstance(wish, Mapping) else wish
        term: sa.ColumnElement[bool] = EVENT.c.metric == str(name)
        if isinstance(wish, Mapping) and (variants := _variants(wish)):
            term = sa.and_(term, EVENT.c.variant.in_(variants))
        terms.append(term)
    return query.where(sa.or_(*terms))


def _variants(wish: Mapping[str, Any]) -> list[str]:
    """Those of a metric that are asked for; empty: all.

    Raises:
        Refusal: 400/800, it is no list.
    """
    variants = wish.get("variants") or []
    if not isinstance(variants, list):
        raise invalid("metrics", "expected a list of {metric, variants}, and variants a list")
    return [str(variant) for variant in variants]


def _last_iterations(rows: Sequence[sa.Row[Any]], iters: int) -> list[Doc]:
    seen: dict[tuple[str, str], set[int]] = defaultdict(set)
    kept = []
    for row in rows:  # newest iteration first
        iterations = seen[row.metric, row.variant]
        if len(iterations) < iters or row.iter in iterations:
            iterations.add(row.iter)
            kept.append(events.event_doc(row))
    return kept


def _thinned(points: list[Any], at_most: int) -> list[Any]:
    """Evenly spaced ones, the first and the last among them."""
    if len(points) <= at_most:
        return points
    step = (len(points) - 1) / (at_most - 1)
    return [points[round(i * step)] for i in range(at_most)]


def _scroll_offset(call: Call) -> int:
    scroll = call.text("scroll_id")
    return int(scroll) if scroll.isdecimal() and len(scroll) <= len(str(LARGEST)) else 0


ENDPOINTS = {
    "events.add": writes(add),
    "events.add_batch": writes(add_batch),
    "events.get_task_log": reads(get_task_log),
    "events.get_task_events": reads(get_task_events),
    "events.get_task_plots": reads(get_task_plots),
    "events.debug_images": reads(debug_images),
    "events.scalar_metrics_iter_histogram": reads(scalar_metrics_iter_histogram),
    "events.get_task_single_value_metrics": reads(get_task_single_value_metrics),
    "events.get_task_latest_scalar_values": reads(get_task_latest_scalar_values),
}
