"""The figures of simulations, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fleet.cli.table import WIDTH, age, money, table

if TYPE_CHECKING:
    from fleet.simulate.breakdown import Breakdown, LimitPart
    from fleet.simulate.figures import Figures

LIMIT = ("limit that was reached", "for", "of the waiting, in that time")


def shown(f: Figures) -> str:
    """Of one fleet file."""
    above = f"{(f.usd / f.usd_lower_bound - 1) * 100:.1f} % above the lower bound" if f.usd_lower_bound else ""
    if f.completed < f.tasks:
        above = "for those that ran; the bound is for all"
    used = f"{f.gpu_hours_used / f.gpu_hours_billed * 100:.0f} % used" if f.gpu_hours_billed else ""
    rows = [
        ("tasks", f"{f.tasks}", f"{f.completed} completed, {f.failed} failed or never started, {f.lost} lost"),
        ("cost", money(f.usd), above),
        ("lower bound", money(f.usd_lower_bound), "every task on its cheapest shape, perfectly packed"),
        ("waiting, mean", age(f.wait_mean_s), f"half within {age(f.wait_p50_s)}, 95 % within {age(f.wait_p95_s)}"),
        ("took", age(f.makespan_s), "from the first submission to the last end"),
        ("instances", f"{f.instances_launched}", f"{f.gpu_hours_billed:.1f} GPU-hours billed, {used}".rstrip(", ")),
    ]
    troubles = [
        ("tasks lost", f.lost),
        ("ran twice at once", f.ran_twice_at_once),
        ("killed by scale-down", f.busy_kills),
        ("seconds of orphans", f.orphan_instance_s),
        ("dollars over budget", f.budget_overshoot_usd),
    ]
    rows += [("BROKEN PROMISE", f"{count:g}", what) for what, count in troubles if count]
    return table(("", "", ""), rows).split("\n", 1)[1] + f"\nsimulated in {f.wall_s:.1f} s"


def parts(b: Breakdown) -> str:
    """Of one fleet file, below its figures: by queue (where there are several) and by kind of machine, and the limits that were reached."""
    queues = [(q.queue, q.tasks, q.started, age(q.wait_mean_s), age(q.wait_p50_s), age(q.wait_p95_s)) for q in b.queues]
    kinds = [
        (k.kind, k.instances, f"{k.hours:.1f}", money(k.usd), "-" if k.used is None else f"{k.used * 100:.0f} %")
        for k in b.kinds
    ]
    found = []
    if len(queues) > 1:
        found.append(table(("queue", "tasks", "started", "waiting, mean", "half within", "95 % within"), queues))
    if kinds:
        found.append(table(("machines", "instances", "hours", "cost", "used"), kinds))
    if b.cut_short:
        runs = "1 run of a task" if b.cut_short == 1 else f"{b.cut_short} runs of tasks"
        found.append(
            f"cut short  {runs}, by what befell their machines; {b.redone_gpu_hours:.1f} GPU-hours had to be done again"
        )
    if b.limits:
        found.append(table(LIMIT, [_limit(each) for each in b.limits]))
    return "\n\n".join(found)


def limits(several: Mapping[str, Breakdown]) -> str:
    """Of several fleet files: what to raise in each if people shall wait less; nothing where no limit made anybody wait."""
    rows = [(_end_of(name, WIDTH // 3), *_limit(each)) for name, b in several.items() for each in b.limits]
    head = ("", *LIMIT)
    lines = table(head, [("" if n and rows[n - 1][0] == row[0] else row[0], *row[1:]) for n, row in enumerate(rows)])
    return lines if rows else ""


def _end_of(name: str, most: int) -> str:
    """Of a path the end tells it from others."""
    return name if len(name) <= most else "…" + name[1 - most :]


def _limit(part: LimitPart) -> tuple[str, str, str]:
    share = f"{part.waiting * 100:.0f} %" if part.waiting >= 0.005 else "under 1 %"
    return part.limit, age(part.reached_s), share


def side_by_side(figures: Mapping[str, Figures]) -> str:
    """Of several fleet files: figures down, files across, the difference to the first in per cent."""
    from fleet.simulate.compare import compared

    rows = compared(list(figures.values()), money, lambda span: f"{span:.0f} s" if span < 7200 else age(span))
    widest = (WIDTH - max(len(row[0]) for row in rows)) // len(figures) - 2
    heads = [_end_of(name, widest) for name in figures]
    took = sum(each.wall_s for each in figures.values())
    lines = table(("", *heads), rows).split("\n", 1)
    head = table(("", *heads), [("", *heads), *rows]).split("\n")[1]  # as the files are called, not in capitals
    return f"{head}\n{lines[1]}\nsimulated in {took:.1f} s"
