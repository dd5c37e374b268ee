"""A simulation from files: what `fleet simulate` does."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

from fleet.config import Config
from fleet.config.quantities import duration
from fleet.dispatcher.parts import Policy
from fleet.errors import ConfigError
from fleet.simulate.catalog import offers_of
from fleet.simulate.engine import Simulation
from fleet.simulate.faults import faults_of
from fleet.simulate.figures import Figures, figures_of
from fleet.simulate.setting import Outcome, Setting
from fleet.simulate.trace import read_trace


def simulate_files(
    config: Config, trace: Path, prices: Path | None, boot_time: str, faults: str, seed: int, checkpoint: str = "never"
) -> tuple[Figures, tuple[str, ...]]:
    """The figures, and what a reader of them should know.

    Raises:
        ConfigError: a flag, the trace or the prices cannot be read, or a shape or price is not known.
    """
    started = time.perf_counter()
    boot = _time("--boot-time", boot_time)
    setting = Setting(
        policy=policy_of(config),
        offers=offers_of(config.resources, prices),
        workload=read_trace(trace, config.queues),
        boot_time=boot,
        checkpoint=None if checkpoint == "never" else _time("--checkpoint", checkpoint) or None,
        faults=faults_of(faults, seed),
    )
    outcome = Simulation(setting).run()
    return figures_of(setting, outcome, time.perf_counter() - started), tuple(_notes(outcome))


def _time(flag: str, text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as error:
        raise ConfigError(f"{flag} {text}: {error}") from error


def policy_of(config: Config) -> Policy:
    """What the fleet file says, as a dispatcher reads it."""
    return Policy(
        cluster=config.cluster,
        resources=config.resources,
        queues=config.queues,
        budget=config.budget,
        centre_url=config.advertise_url,
        server_url="simulated",
        server_kind="embedded",
        poll_interval=config.poll_interval,
        fairness=config.fairness,
        starvation_after=config.starvation_after,
    )


def _notes(outcome: Outcome) -> list[str]:
    """One line for each cause for which tasks wait for ever."""
    return [
        f"{count} {'task' if count == 1 else 'tasks'} never started and count as failed: {example}"
        for example, count in sorted(outcome.why_waiting.items())
    ]
