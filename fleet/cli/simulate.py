"""`fleet simulate`: what a fleet file would have cost on a workload, and how long people would have waited."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.options import ConfigOption, JsonOption
from fleet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.config import Config
    from fleet.simulate.breakdown import Breakdown
    from fleet.simulate.run import Answer, Question

KINDS = "research, sweeps, inference-batch or mixed"  # as fleet.simulate.workload has them

TraceOption = Annotated[
    Path | None,
    typer.Option(
        help="A CSV file: submit_s,gpus,duration_s and, if you like, queue, gpu_type, user, instances, same_zone."
    ),
]
WorkloadOption = Annotated[str | None, typer.Option(help=f"Instead of a trace, one that is made: {KINDS}.")]
DaysOption = Annotated[float | None, typer.Option(help="Of a made workload, how many. Default: 7.")]
TasksOption = Annotated[int | None, typer.Option(help="Of a made workload, how many. Default: as is usual for it.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write the made workload there, as a trace; simulate nothing.")
]
CompareOption = Annotated[
    list[Path] | None, typer.Option(help="Another fleet file, side by side with the first. May be repeated.")
]
PricesOption = Annotated[
    Path | None,
    typer.Option(
        help="A CSV file: instance_type,count,on_demand_usd_h, spot_usd_h, region, cloud. Default: as `fleet prices list` shows."
    ),
]
BootTimeOption = Annotated[str, typer.Option(help="From the launch of a machine until it takes tasks.")]
FaultsOption = Annotated[
    str, typer.Option(help="none; spot: machines are taken back, zones sell out; chaos: everything fails at times.")
]
SeedOption = Annotated[int, typer.Option(help="Of faults and made workloads. The same seed gives the same figures.")]
CheckpointOption = Annotated[
    str,
    typer.Option(help="So often a task keeps what it has done. never: it begins anew when it loses its machine."),
]
ReportOption = Annotated[Path | None, typer.Option(help="Write figures, a timeline and charts into this directory.")]
EventsOption = Annotated[
    Path | None, typer.Option(help="Write what happened, when and why into this file; JSON, one object a line.")
]
WorldOption = Annotated[
    int | None, typer.Option(help="Instead of all that, tell the random world of this seed, event by event.")
]


def add_to(app: typer.Typer) -> None:
    app.command()(simulate)


def simulate(
    trace: TraceOption = None,
    workload: WorkloadOption = None,
    days: DaysOption = None,
    tasks: TasksOption = None,
    out: OutOption = None,
    config: ConfigOption = None,
    compare: CompareOption = None,
    prices: PricesOption = None,
    boot_time: BootTimeOption = "180s",
    faults: FaultsOption = "none",
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "never",
    report: ReportOption = None,
    events: EventsOption = None,
    world: WorldOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a fleet file would have cost on a workload.

    Replays it in virtual time, with the real planner, dispatcher and supervisor decisions.
    """
    import logging

    from fleet.simulate.run import Question

    # What a dispatcher warns of happens thousands of times here, and in no time that a log could show.
    logging.getLogger("fleet").addHandler(logging.NullHandler())
    logging.getLogger("fleet").propagate = False
    if sum(each is not None for each in (trace, workload, world)) != 1:
        raise typer.BadParameter("give one of --trace FILE, --workload KIND and --world SEED", param_hint="--trace")
    if workload is None and (days is not None or tasks is not None or out is not None):
        raise typer.BadParameter("--days, --tasks and --out go with --workload KIND", param_hint="--workload")
    _refuse_what_is_ignored("--world", world, (config, compare, prices, report, events, as_json))
    _refuse_what_is_ignored("--out", out, (compare, report, events, as_json))
    if world is not None:
        _tell_world(world)
        return
    asked = Question(
        trace=trace,
        kind=workload,
        days=days,
        tasks=tasks,
        prices=prices,
        boot_time=boot_time,
        faults=faults,
        seed=seed,
        checkpoint=checkpoint,
    )
    from fleet.config import default_path
    from fleet.simulate.whole import refuse_inputs

    read = (config or default_path(), trace, prices, *(compare or ()))
    refuse_inputs("--out", out, read)
    refuse_inputs("--events", events, read)
    if out is not None:
        _write_trace(config, asked, out)
        return
    _simulate([config, *(compare or ())], asked, report, events, as_json)


def _refuse_what_is_ignored(option: str, given: object, others: Sequence[object]) -> None:
    """--world and --out simulate no fleet file: what goes with one would do nothing."""
    if given is not None and any(others):
        ignored = "--compare, --report, --events and --json" + ", --config and --prices" * (option == "--world")
        raise typer.BadParameter(f"does not go with {ignored}", param_hint=option)


def _simulate(
    paths: Sequence[Path | None], asked: Question, report: Path | None, events: Path | None, as_json: bool
) -> None:
    from dataclasses import asdict

    from fleet.cli.figures import limits, parts, shown, side_by_side
    from fleet.simulate.breakdown import breakdown_of
    from fleet.simulate.run import answer, settings_of
    from fleet.simulate.story import as_json as event_as_json

    configs = [_load(path) for path in paths]
    names = [config.origin for config in configs]
    if twice := [name for n, name in enumerate(names) if name in names[:n]]:
        raise typer.BadParameter(f"{twice[0]} is there twice", param_hint="--compare")
    if events and len(configs) > 1:
        raise typer.BadParameter("events are written of one fleet file, not of several", param_hint="--events")
    if report:
        from fleet.simulate.report import prepare

        prepare(report)
    settings = settings_of(configs, asked)
    try:
        with ExitStack() as files:
            file = files.enter_context(events.open("w", encoding="utf-8")) if events else None
            listener = (lambda scene: print(event_as_json(scene), file=file)) if file else None
            answers = [answer(name, setting, listener) for name, setting in zip(names, settings, strict=True)]
    except OSError as error:
        raise ConfigError(f"--events {events}: {error.strerror}; it is not whole, name another file") from error
    for each in answers:
        for note in each.notes:
            typer.echo(f"note: {each.fleet + ': ' if len(answers) > 1 else ''}{note}", err=True)
    breakdowns = {each.fleet: breakdown_of(each.setting, each.outcome) for each in answers}
    if report:
        _report(report, answers, asked, breakdowns)
    figures = {each.fleet: each.figures for each in answers}
    if as_json:
        data = [{"fleet": name, **asdict(each)} for name, each in figures.items()]
        typer.echo(json.dumps(data if len(data) > 1 else asdict(answers[0].figures), indent=2))
        return
    if len(answers) == 1:
        below = parts(breakdowns[answers[0].fleet])
        typer.echo(shown(answers[0].figures) + (f"\n\n{below}" if below else ""))
        return
    typer.echo(side_by_side(figures))
    if reached := limits(breakdowns):
        typer.echo(f"\n{reached}")


def _load(path: Path | None) -> Config:
    from fleet.config import default_path, load

    return load(path or default_path(), is_for_real=False)


def _report(folder: Path, answers: Sequence[Answer], asked: Question, breakdowns: Mapping[str, Breakdown]) -> None:
    from fleet.simulate.report import write
    from fleet.simulate.timeline import timeline_of

    notes = [f"{each.fleet}: {note}" for each in answers for note in each.notes]
    said = (f"fleet {', '.join(each.fleet for each in answers)}", *asked.said)
    short = {each.fleet: Path(each.fleet).name for each in answers}
    names = short if len(set(short.values())) == len(short) else {name: name for name in short}
    figures = {names[each.fleet]: each.figures for each in answers}
    timelines = {names[each.fleet]: timeline_of(each.setting, each.outcome) for each in answers}
    files = write(folder, figures, timelines, said, notes, {names[fleet]: b for fleet, b in breakdowns.items()})
    typer.echo(f"written to {folder}: {', '.join(files)}", err=True)


def _write_trace(config: Path | None, asked: Question, out: Path) -> None:
    from fleet.simulate.run import made_trace
    from fleet.simulate.whole import write_whole
    from fleet.simulate.workload import as_trace

    made = made_trace(_load(config) if config else None, asked)
    try:
        write_whole(out, as_trace(made).encode())
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}; name a file that can be written") from error
    typer.echo(f"{len(made)} tasks written to {out}; simulate them with: fleet simulate --trace {out}")


def _tell_world(seed: int) -> None:
    """Exit code 1 where a promise was broken."""
    from fleet.cli.figures import shown
    from fleet.simulate.promises import broken
    from fleet.simulate.run import answer
    from fleet.simulate.story import as_line
    from fleet.simulate.world import described, make_world

    setting = make_world(seed)
    typer.echo(described(setting) + "\n")
    told = answer(f"world {seed}", setting, lambda scene: typer.echo(as_line(scene)))
    typer.echo("\n" + shown(told.figures))
    promises = broken(setting, told.outcome)
    for promise in promises:
        typer.echo(f"BROKEN PROMISE  {promise}")
    if promises:
        raise typer.Exit(1)
