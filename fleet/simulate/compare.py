"""Figures side by side: one fleet file a column, each against the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fleet.simulate.figures import Figures

Shown = Callable[[float], str]


def compared(figures: Sequence[Figures], money: Shown, span: Shown) -> list[tuple[str, ...]]:
    """Rows of what a reader compares: its name, then for each fleet its value and how much more than the first's that is.

    `money` and `span` show US dollars and seconds. Rows of broken promises only where one was broken.
    """
    rows: list[tuple[str, str, Shown, bool]] = [
        ("tasks", "tasks", _count, False),
        ("completed", "completed", _count, True),
        ("failed, or never started", "failed", _count, True),
        ("cost", "usd", money, True),
        ("lower bound", "usd_lower_bound", money, True),
        ("waiting, mean", "wait_mean_s", span, True),
        ("half within", "wait_p50_s", span, True),
        ("95 % within", "wait_p95_s", span, True),
        ("took", "makespan_s", span, True),
        ("instances", "instances_launched", _count, True),
        ("GPU-hours billed", "gpu_hours_billed", _hours, True),
        ("GPU-hours used", "gpu_hours_used", _hours, True),
    ]
    troubles: list[tuple[str, str, Shown, bool]] = [
        ("BROKEN: tasks lost", "lost", _count, False),
        ("BROKEN: ran twice at once", "ran_twice_at_once", _count, False),
        ("BROKEN: killed by scale-down", "busy_kills", _count, False),
        ("BROKEN: seconds of orphans", "orphan_instance_s", _count, False),
        ("BROKEN: dollars over budget", "budget_overshoot_usd", money, False),
    ]
    rows += [row for row in troubles if any(getattr(each, row[1]) for each in figures)]
    return [(name, *_cells([getattr(each, key) for each in figures], shown, has)) for name, key, shown, has in rows]


def _cells(values: Sequence[float], shown: Shown, has_difference: bool) -> list[str]:
    first = values[0]
    others = [f"{shown(each)}{_difference(each, first) if has_difference else ''}" for each in values[1:]]
    return [shown(first), *others]


def _difference(value: float, first: float) -> str:
    """In per cent of the first; nothing where there is none to see, or nothing to divide by."""
    change = (value / first - 1) * 100 if first else 0.0
    if abs(change) < 0.05:
        return ""
    return f" ({change:+.1f} %)" if abs(change) < 1000 else f" ({value / first:.0f} times)"


def _count(value: float) -> str:
    return f"{value:g}" if value < 1e5 else f"{value:.0f}"


def _hours(value: float) -> str:
    return f"{value:.1f}"
