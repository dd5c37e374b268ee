"""`fleet simulate --report DIR`: the figures, what happened over time, and charts of it. The same simulation writes the same bytes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from fleet.errors import ConfigError
from fleet.simulate import charts
from fleet.simulate.breakdown import Breakdown
from fleet.simulate.compare import compared
from fleet.simulate.figures import Figures
from fleet.simulate.timeline import Timeline, as_csv
from fleet.simulate.whole import write_whole


def prepare(folder: Path) -> None:
    """The directory is there and can be written to, and charts can be drawn.

    Raises:
        ConfigError: not so; the text says what to do.
    """
    charts.require()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"--report {folder}: {error.strerror}; give a directory that can be written to") from error


def write(
    folder: Path,
    figures: Mapping[str, Figures],
    timelines: Mapping[str, Timeline],
    said: Sequence[str],
    notes: Sequence[str],
    breakdowns: Mapping[str, Breakdown],
) -> tuple[str, ...]:
    """All files of the report, by fleet; `said`: what was simulated, a line each. Returns their names.

    `figures.json` is as `--json` but for `wall_s`, which differs from run to run.
    """
    data = [{"fleet": name, **_lasting(each)} for name, each in figures.items()]
    files: dict[str, bytes] = {
        "report.md": _page(figures, said, notes, breakdowns).encode(),
        "figures.json": (json.dumps(data if len(data) > 1 else data[0], indent=2) + "\n").encode(),
        "timeline.csv": as_csv(timelines).encode(),
        **charts.draw(timelines),
    }
    try:
        for name, content in files.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise ConfigError(f"--report {folder}: {error.strerror}") from error
    return tuple(files)


def _lasting(figures: Figures) -> dict[str, object]:
    return {key: value for key, value in asdict(figures).items() if key != "wall_s"}


def _page(
    figures: Mapping[str, Figures], said: Sequence[str], notes: Sequence[str], breakdowns: Mapping[str, Breakdown]
) -> str:
    rows = compared(list(figures.values()), _usd, _s)
    lines = ["# fleet simulate", "", *(f"- {line}" for line in said), ""]
    lines += ["| |" + " | ".join(_plain(name) for name in figures) + " |", "|---|" + "---:|" * len(figures)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    if notes:
        lines += ["", *(f"- {_plain(note)}" for note in notes)]
    for name, each in breakdowns.items():
        lines += _parts(each, f" of {_plain(name)}" if len(breakdowns) > 1 else "")
    lines += ["", "![cost](cost.svg)", "", "![machines](instances.svg)", "", "![waiting](waiting.svg)", ""]
    lines += ["The charts' numbers: `timeline.csv`. All figures: `figures.json`.", ""]
    return "\n".join(lines)


def _parts(b: Breakdown, of: str) -> list[str]:
    """By queue, by kind of machine, and where a limit made people wait."""
    lines = ["", f"## Queues{of}", "| queue | tasks | started | waiting, mean | half within | 95 % within |"]
    lines += ["|---|" + "---:|" * 5]
    lines += [
        f"| {q.queue} | {q.tasks} | {q.started} | {_s(q.wait_mean_s)} | {_s(q.wait_p50_s)} | {_s(q.wait_p95_s)} |"
        for q in b.queues
    ]
    lines += ["", f"## Machines{of}", "| resource, type, market | instances | hours | cost | used |"]
    lines += ["|---|" + "---:|" * 4]
    for k in b.kinds:
        used = "-" if k.used is None else f"{k.used * 100:.0f} %"
        lines.append(f"| {_plain(k.kind)} | {k.instances} | {k.hours:,.1f} | {_usd(k.usd)} | {used} |")
    if b.cut_short:
        lines += [
            "",
            f"Cut short: {b.cut_short} runs of tasks; {b.redone_gpu_hours:,.1f} GPU-hours had to be done again.",
        ]
    if b.limits:
        lines += ["", f"## Limits that were reached{of}", "| limit | for | of the waiting, in that time |"]
        lines += ["|---|---:|---:|"]
        lines += [f"| {_plain(x.limit)} | {_s(x.reached_s)} | {x.waiting * 100:.1f} % |" for x in b.limits]
    return lines


def _usd(usd: float) -> str:
    return f"${usd:,.2f}"


def _s(span: float) -> str:
    return f"{span:,.0f} s"


def _plain(text: str) -> str:
    """On one line, and in one cell of a table."""
    return text.replace("|", "/").replace("\n", " ")
