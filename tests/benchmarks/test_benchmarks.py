"""The measurements run; how fast anything is, is for `make bench` to say, on a quiet machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import peers
from tests.system import docker_engine

ROOT = Path(__file__).parents[2]
WHO = (
    *("bound", "fleet", "clearml_as_it_comes", "clearml_poll_1min_idle_10min", "a_vm_per_task"),
    *(f"{where}_idle_{minutes}min" for where in ("smallest", "own_width") for minutes in (5, 10)),
)
RAY = {f"schedulers.5_types_20_demands.ray_{v}" for v in ("v1", "v2")} if peers.python() else {"schedulers.ray"}
DOCKER = {"idle_docker.engine"} if docker_engine.why_not() else {"idle_docker.rss", "idle_docker.cpu"}
FIGURES = {
    "commands": {"commands.help", "commands.status"},
    "launch": {"launch.enqueue_to_launch_call"},
    "start": {"start.enqueue_to_agent"},
    "idle": {"idle.rss", "idle.cpu", "idle.calls"},
    "idle_docker": DOCKER,
    "notice": {"notice.to_task_signalled", "notice.to_dispatcher_told"},
    "churn": {"churn.seconds_per_task", "churn.left"},
    "server": {f"server.{call}" for call in ("enqueue", "claim", "status_report", "log_1_line", "log_100_lines")},
    "planner": {f"planner.{t}_types_{n}_tasks" for t, n in ((50, 1000), *((400, 10**n) for n in (3, 4, 5)), (400, 0))},
    "dispatcher": {"dispatcher.idle_pass_20_memory", "dispatcher.idle_pass_20_sqlite"},
    "simulation": {"simulation.research", "simulation.mixed"},
    "quality": {
        f"quality.{w}.{x}" for w in ("empty_fleet", "after_reuse", "machines_with_room") for x in ("mean", "worst")
    },
    "schedulers": {"schedulers.5_types_20_demands.fleet", *RAY},
    "money": {
        f"money.proportional.quick.{who}"
        for who in (*WHO, "who_knows_the_future", "who_knows_the_future_of_each_width")
    },
    "spot": {f"spot.{p}.proportional.quick.{who}" for p in ("lost", "kept") for who in WHO},
}


def bench(*arguments: str, path: Path | None = None) -> tuple[int, list[dict[str, object]]]:
    """The exit code and the lines of `python -m benchmarks`; `path`: where Python looks for modules first."""
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.system
@pytest.mark.parametrize("name", FIGURES)
def test_every_measurement_prints_its_figures_as_json_lines(name: str) -> None:
    exit_code, (machine, *figures) = bench("--quick", name)
    assert (exit_code, machine["name"]) == (0, "machine"), figures
    assert {figure["name"] for figure in figures} == FIGURES[name]
    assert [figure for figure in figures if not isinstance(figure["value"], float) or not figure["unit"]] == []


@pytest.mark.system
def test_a_measurement_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError('no server today')\n")
    exit_code, lines = bench("--quick", "server", "planner", path=tmp_path)
    (failed,) = [line for line in lines if "error" in line]
    assert (exit_code, failed["name"]) == (1, "server")
    assert "no server today" in str(failed["error"])
    assert {line["name"] for line in lines if "value" in line} == {"machine", *FIGURES["planner"]}


def test_an_unknown_name_is_wrong_usage() -> None:
    assert bench("nothing") == (2, [])
