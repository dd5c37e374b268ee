"""A simulation from files: what `fleet simulate` does."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fleet.config import Config
from fleet.config.quantities import duration
from fleet.dispatcher.parts import Policy
from fleet.errors import ConfigError
from fleet.simulate.catalog import offers_of, without_spot
from fleet.simulate.engine import Simulation
from fleet.simulate.faults import faults_of
from fleet.simulate.figures import Figures, figures_of
from fleet.simulate.setting import Outcome, Setting
from fleet.simulate.story import Listener
from fleet.simulate.trace import Submission, read_trace
from fleet.simulate.workload import kind_of, make_kind

DAYS = 7.0
# Hardly anything here is garbage that counting references leaves behind: to look for some at every 700th new object takes a sixth
# of the time. At so many it costs nothing, and the memory for so many.
CALM = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be simulated, as its user wrote it: a trace, or a kind of workload."""

    trace: Path | None = None
    kind: str | None = None
    days: float | None = None
    tasks: int | None = None
    prices: Path | None = None
    boot_time: str = "180s"
    faults: str = "none"
    seed: int = 0
    checkpoint: str = "never"

    @property
    def said(self) -> tuple[str, ...]:
        """For people who read the answer later."""
        tasks = f"{self.tasks} tasks of " if self.tasks is not None else ""
        workload = f"trace {self.trace}" if self.trace else f"workload {tasks}{self.kind}, {self.days or DAYS:g} days"
        prices = f", prices {self.prices}" if self.prices else ""
        return (
            f"{workload}{prices}",
            f"boot time {self.boot_time}, faults {self.faults}, checkpoint {self.checkpoint}, seed {self.seed}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one fleet file."""

    fleet: str  # the file
    setting: Setting
    outcome: Outcome
    figures: Figures

    @property
    def notes(self) -> list[str]:
        """One line for each resource that is not simulated whole, and for each cause for which tasks wait for ever."""
        by_resource = ((r, without_spot(r, self.setting.offers[r.name])) for r in self.setting.policy.resources)
        return [
            *([] if self.setting.workload else ["there are no tasks in it"]),
            *(
                f"resource {resource.name}: nobody says what {', '.join(types)} costs as spot, so it is simulated on demand; say it with "
                f"prices: {{{types[0]}: {{spot: DOLLARS_AN_HOUR}}}} on the resource, or with --prices FILE"
                for resource, types in by_resource
                if types
            ),
            *self._waiting,
        ]

    @property
    def _waiting(self) -> list[str]:
        return [
            f"{count} {'task' if count == 1 else 'tasks'} never started and count as failed: {example}"
            for example, count in sorted(self.outcome.why_waiting.items())
        ]


def settings_of(configs: Sequence[Config], asked: Question) -> list[Setting]:
    """The same workload and faults for each of these fleet files. Everything is read before anything is simulated.

    Raises:
        ConfigError: a flag, the trace or the prices cannot be read, or a shape or price is not known.
    """
    boot = _time("--boot-time", asked.boot_time)
    checkpoint = None if asked.checkpoint == "never" else _time("--checkpoint", asked.checkpoint)
    if checkpoint is not None and not checkpoint:
        raise ConfigError(f"--checkpoint {asked.checkpoint}: must be more than 0; never: a task keeps nothing")
    faults = faults_of(asked.faults, asked.seed)
    return [
        Setting(
            policy=policy_of(config),
            offers=offers_of(config.resources, asked.prices, config.state_dir),
            workload=_workload(config, configs, asked),
            boot_time=boot,
            checkpoint=checkpoint,
            faults=faults,
        )
        for config in configs
    ]


def answer(fleet: str, setting: Setting, listener: Listener | None = None) -> Answer:
    """Simulate it; `listener` hears of everything that happens."""
    started = time.perf_counter()
    thresholds = gc.get_threshold()
    gc.set_threshold(CALM)
    try:
        outcome = Simulation(setting, listener).run()
    finally:
        gc.set_threshold(*thresholds)
    figures = figures_of(setting, outcome, time.perf_counter() - started)
    return Answer(fleet=fleet, setting=setting, outcome=outcome, figures=figures)


def made_trace(config: Config | None, asked: Question) -> tuple[Submission, ...]:
    """The workload alone; without a fleet file it names no queues.

    Raises:
        ConfigError: there is no such kind, or not for so long.
    """
    queues = _queues_of_all([config]) if config else ("",)
    days = DAYS if asked.days is None else asked.days
    return make_kind(kind_of(asked.kind or ""), days, seed=asked.seed, queues=queues, tasks=asked.tasks)


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
        wait_usd_per_hour=config.wait_usd_per_hour,
    )


def _workload(config: Config, configs: Sequence[Config], asked: Question) -> tuple[Submission, ...]:
    if asked.trace:
        return read_trace(asked.trace, config.queues)
    days = DAYS if asked.days is None else asked.days
    queues = _queues_of_all(configs) or (config.queues[0].name,)
    return make_kind(kind_of(asked.kind or ""), days, seed=asked.seed, queues=queues, tasks=asked.tasks)


def _queues_of_all(configs: Sequence[Config]) -> tuple[str, ...]:
    """Queues for GPUs that every one of these files has: tasks of a made workload are spread over them."""
    known = [{queue.name for queue in config.queues} for config in configs]
    wanted = [queue.name for queue in configs[0].queues if queue.need.at_most]
    return tuple(name for name in wanted if all(name in names for names in known))
