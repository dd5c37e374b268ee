"""`fleet simulate`: what a fleet file would have cost on a workload, and how long people would have waited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.options import ConfigOption, JsonOption
from fleet.cli.table import age, money, table

if TYPE_CHECKING:
    from fleet.simulate.figures import Figures


def add_to(app: typer.Typer) -> None:
    app.command()(simulate)


def simulate(
    trace: Annotated[
        Path,
        typer.Option(
            help="A CSV file: submit_s,gpus,duration_s and, if you like, queue, gpu_type, user, instances, same_zone."
        ),
    ],
    config: ConfigOption = None,
    prices: Annotated[
        Path | None, typer.Option(help="A CSV file: instance_type,count,on_demand_usd_h, spot_usd_h, region, cloud.")
    ] = None,
    boot_time: Annotated[str, typer.Option(help="From the launch of a machine until it takes tasks.")] = "180s",
    faults: Annotated[
        str, typer.Option(help="none; spot: machines are taken back, zones sell out; chaos: everything fails at times.")
    ] = "none",
    seed: Annotated[int, typer.Option(help="Of the faults. The same seed gives the same figures.")] = 0,
    checkpoint: Annotated[
        str,
        typer.Option(help="So often a task keeps what it has done. never: it begins anew when it loses its machine."),
    ] = "never",
    as_json: JsonOption = False,
) -> None:
    """What a fleet file would have cost on a workload.

    Replays it in virtual time, with the real planner, dispatcher and supervisor decisions.
    """
    import logging
    from dataclasses import asdict

    from fleet.config import default_path, load
    from fleet.simulate.run import simulate_files

    # What a dispatcher warns of happens thousands of times here, and in no time that a log could show.
    logging.getLogger("fleet").addHandler(logging.NullHandler())
    logging.getLogger("fleet").propagate = False
    figures, notes = simulate_files(
        load(config or default_path(), is_for_real=False), trace, prices, boot_time, faults, seed, checkpoint
    )
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(json.dumps(asdict(figures), indent=2) if as_json else _shown(figures))


def _shown(f: Figures) -> str:
    above = f"{(f.usd / f.usd_lower_bound - 1) * 100:.1f} % above the lower bound" if f.usd_lower_bound else ""
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
