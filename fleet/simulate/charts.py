"""Charts of simulations, drawn with matplotlib where it is installed. The same timelines give the same bytes: no date, no
random ids, no fonts but those that come with it, and nobody's own settings."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypedDict

from fleet.errors import ConfigError
from fleet.simulate.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers, and in print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
LINES = ("-", "--", ":", "-.")
MOST_TYPES = len(COLOURS) - 1  # the rarest beyond share the last colour
DAY_S, HOUR_S, MINUTE_S = 86400.0, 3600.0, 60.0
SETTINGS: dict[Any, object] = {
    "svg.hashsalt": "fleet",
    "svg.fonttype": "path",  # looks the same everywhere
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar is a dollar
}


class Look(TypedDict):
    """Of one line."""

    color: str
    linestyle: str
    fill: bool
    label: str | None


def draw(timelines: Mapping[str, Timeline]) -> dict[str, bytes]:
    """Files by name: what it cost, what ran and who waited, as SVG and PNG. One timeline in detail, several as lines to compare.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    files = {}
    with _plain_settings():
        for name, chart in (("cost", _cost), ("instances", _instances), ("waiting", _waiting)):
            figure = chart(timelines)
            for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
                file = io.BytesIO()
                figure.savefig(file, format=kind, dpi=120, metadata=metadata)
                files[f"{name}.{kind}"] = file.getvalue()
    return files


def require() -> None:
    """That charts can be drawn here, before anything takes long.

    Raises:
        ConfigError: matplotlib is not installed; the text says how to.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--report draws charts with matplotlib; install it with: pip install 'fleet[report]'"
        ) from error


@contextmanager
def _plain_settings() -> Iterator[None]:
    require()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def _figure(rows: int, title: str) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # without pyplot: no display, no state

    figure = Figure(figsize=(9, 2.2 + 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure, list(axes[:, 0])


def _cost(timelines: Mapping[str, Timeline]) -> Figure:
    figure, (axis,) = _figure(1, "Cost since the start")
    unit = _unit(timelines)
    for n, (name, t) in enumerate(timelines.items()):
        at = [edge / unit[1] for edge in t.edges_s]
        usd, work = [0.0, *t.usd], [0.0, *t.usd_work]
        if len(timelines) == 1:
            axis.fill_between(
                at, 0, work, color=COLOURS[0], alpha=0.85, linewidth=0, label=f"work ${t.usd_work[-1]:,.2f}"
            )
            overhead = f"boot, idle, lost work ${t.usd[-1] - t.usd_work[-1]:,.2f}"
            axis.fill_between(at, work, usd, color=COLOURS[1], alpha=0.85, linewidth=0, label=overhead)
        else:
            axis.plot(at, usd, color=COLOURS[n % 8], linestyle=LINES[n % 4], label=f"{name}: ${t.usd[-1]:,.2f}")
            axis.plot(
                at,
                work,
                color=COLOURS[n % 8],
                linestyle=LINES[n % 4],
                alpha=0.4,
                linewidth=1,
                label="  of that, work",
            )
    _label(axis, unit, "US dollars")
    return figure


def _instances(timelines: Mapping[str, Timeline]) -> Figure:
    figure, (upper, lower) = _figure(2, "Machines, and GPUs")
    unit = _unit(timelines)
    for n, (name, t) in enumerate(timelines.items()):
        colour, line = COLOURS[n % 8], LINES[n % 4]
        edges = [edge / unit[1] for edge in t.edges_s]
        if len(timelines) == 1:
            several = _largest(t.instances)
            steps = [_stepped(values) for values in several.values()]
            if steps:
                upper.stackplot(edges, steps, labels=list(several), colors=COLOURS, step="post", linewidth=0)
            lower.stairs(t.gpus_billed, edges, color=COLOURS[1], label="GPUs paid for")
            lower.stairs(t.gpus_used, edges, color=COLOURS[0], fill=True, alpha=0.6, label="GPUs that held a task")
        else:
            total = [sum(each) for each in zip(*t.instances.values(), strict=True)] or [0.0] * (len(edges) - 1)
            upper.stairs(total, edges, color=colour, linestyle=line, label=name)
            lower.stairs(t.gpus_billed, edges, color=colour, linestyle=line, label=f"{name}: paid for")
    _label(upper, unit, "machines", is_last=False)
    _label(lower, unit, "GPUs")
    return figure


def _waiting(timelines: Mapping[str, Timeline]) -> Figure:
    figure, (upper, lower) = _figure(2, "Who waits: the worst moment of each span")
    unit = _unit(timelines)
    longest = max((max(t.longest_wait_s, default=0.0) for t in timelines.values()), default=0.0)
    wait, wait_s = next(
        ((name, s) for name, s in (("hours", HOUR_S), ("minutes", MINUTE_S)) if longest > 3 * s), ("seconds", 1.0)
    )
    for n, (name, t) in enumerate(timelines.items()):
        colour, line = COLOURS[n % 8], LINES[n % 4]
        edges = [edge / unit[1] for edge in t.edges_s]
        is_only = len(timelines) == 1
        look = Look(color=colour, linestyle=line, fill=is_only, label=None if is_only else name)
        upper.stairs(t.waiting, edges, **look)
        lower.stairs([each / wait_s for each in t.longest_wait_s], edges, **look)
    _label(upper, unit, "tasks that wait", is_last=False)
    _label(lower, unit, f"longest wait, {wait}", has_legend=False)
    return figure


def _label(axis: Axes, unit: tuple[str, float], what: str, *, is_last: bool = True, has_legend: bool = True) -> None:
    axis.set_ylabel(what)
    axis.set_ylim(bottom=0)
    axis.margins(x=0)
    if is_last:
        axis.set_xlabel(f"{unit[0]} since the start")
    if has_legend and axis.get_legend_handles_labels()[0]:
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)


def _unit(timelines: Mapping[str, Timeline]) -> tuple[str, float]:
    length = max(t.edges_s[-1] for t in timelines.values())
    units = (("days", DAY_S), ("hours", HOUR_S), ("minutes", MINUTE_S))
    return next(((name, s) for name, s in units if length > 3 * s), ("seconds", 1.0))


def _stepped(values: Sequence[float]) -> list[float]:
    """One value for each edge, as steps want it."""
    return [*values, values[-1]]


def _largest(instances: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """Those types that ran most, and all others as one."""
    ranked = sorted(instances, key=lambda name: (-sum(instances[name]), name))
    found = {name: instances[name] for name in ranked[:MOST_TYPES]}
    rest = [instances[name] for name in ranked[MOST_TYPES:]]
    if rest:
        found[f"{len(rest)} others"] = [sum(each) for each in zip(*rest, strict=True)]
    return found
