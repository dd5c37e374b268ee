"""What is written about a simulation: timelines that add up to its figures, charts, pages; the same bytes for the same seed."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.cli.app import app
from fleet.errors import ConfigError
from fleet.simulate import report
from fleet.simulate.charts import draw
from fleet.simulate.compare import compared
from fleet.simulate.timeline import as_csv, timeline_of
from fleet.simulate.workload import make_workload
from tests.builders import an_offer
from tests.simulate.nouns import a_fleet, a_setting, harsh, jobs, run

pytest.importorskip("matplotlib")
ROOT = Path(__file__).parents[2]
FILES = {"report.md", "figures.json", "timeline.csv"} | {
    f"{name}.{kind}" for name in ("cost", "instances", "waiting") for kind in ("svg", "png")
}
FLEET = """
cluster: research
resources:
  box: {provider: local, gpus: 4, usd_per_hour: 2, max_instances: 3}
queues:
  train: {resources: [box], gpus: 1}
"""


def test_a_timeline_adds_up_to_the_figures() -> None:
    setting = a_setting(make_workload(60, 0.3, seed=3, sizes={1: 3, 4: 1}), a_fleet(max_instances=2), faults=harsh(3))
    figures, outcome = run(setting)
    timeline = timeline_of(setting, outcome)
    hours = timeline.edges_s[1] / 3600
    assert timeline.usd[-1] == pytest.approx(figures.usd, abs=1e-4)
    assert sum(timeline.gpus_billed) * hours == pytest.approx(figures.gpu_hours_billed, abs=1e-3)
    assert sum(timeline.gpus_used) * hours == pytest.approx(figures.gpu_hours_used, abs=1e-3)
    assert max(timeline.longest_wait_s) >= figures.wait_p95_s
    assert 0 < timeline.usd_work[-1] < timeline.usd[-1]


def test_a_timeline_by_hand() -> None:
    """Three minutes of boot, ten of work on two of four GPUs, ten of idleness; $2 an hour."""
    setting = a_setting(jobs(2))
    timeline = timeline_of(setting, run(setting)[1], spans=23)  # of a minute
    assert timeline.edges_s[1] == 60
    assert dict(timeline.instances) == {"gpu fake-4gpu on_demand": [1.0] * 23}
    assert timeline.gpus_used == pytest.approx([0.0] * 3 + [2.0] * 10 + [0.0] * 10)
    assert timeline.waiting == [1, 1, 1] + [0] * 20
    assert timeline.longest_wait_s == [60, 120, 180, *[0] * 20]
    assert timeline.usd_work[-1] == pytest.approx(10 / 60 * 2 / 2)
    assert timeline.usd[-1] == pytest.approx(23 / 60 * 2)


def test_a_task_that_is_put_back_waits_again() -> None:
    setting = a_setting(make_workload(40, 0.2, seed=9), faults=harsh(9))
    _, outcome = run(setting)
    assert len(outcome.truth.attempts) > len(outcome.truth.first_start)
    assert sum(timeline_of(setting, outcome).waiting) > 0


def test_a_timeline_is_a_table_of_one_row_for_each_fleet_and_span() -> None:
    setting = a_setting(jobs(1))
    timeline = timeline_of(setting, run(setting)[1], spans=10)
    rows = list(csv.DictReader(io.StringIO(as_csv({"a": timeline, "b": timeline}))))
    assert [row["fleet"] for row in rows] == ["a"] * 10 + ["b"] * 10
    assert (rows[0]["from_s"], rows[9]["until_s"], rows[9]["instances gpu fake-4gpu on_demand"]) == ("0", "1380", "1")


def test_nothing_that_happened_is_a_chart_too() -> None:
    setting = a_setting([])
    assert set(draw({"nothing": timeline_of(setting, run(setting)[1])})) == FILES - {
        "report.md",
        "figures.json",
        "timeline.csv",
    }


def test_many_types_share_the_last_colour() -> None:
    offers = [an_offer(gpus=n, usd=n * 1.0) for n in range(1, 13)]
    setting = a_setting([job for n in range(1, 13) for job in jobs(n)], offers=offers)
    files = draw({"$a_$b": timeline_of(setting, run(setting)[1])})
    assert all(files.values())


def test_figures_are_compared_with_the_first() -> None:
    first, _ = run(a_setting(jobs(1, 1)))
    second, _ = run(a_setting(jobs(1, 1), offers=[an_offer(usd=3.0)]))
    rows = {row[0]: row[1:] for row in compared([first, second], lambda usd: f"${usd:.2f}", lambda s: f"{s:.0f} s")}
    assert rows["cost"] == ("$0.77", "$1.15 (+50.0 %)")
    assert rows["waiting, mean"] == ("180 s", "180 s")
    assert not any(name.startswith("BROKEN") for name in rows)


# --- as a user has it


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "idle.yaml").write_text(FLEET.replace("max_instances: 3", "max_instances: 3, idle_timeout: 2m"))
    (tmp_path / "trace.csv").write_text("submit_s,gpus,duration_s\n" + "".join(f"{n * 90},1,600\n" for n in range(20)))
    return tmp_path


def call(files: Path, *options: str) -> list[str]:
    return ["simulate", f"--config={files / 'fleet.yaml'}", f"--trace={files / 'trace.csv'}", *options]


def test_a_report_is_a_page_its_numbers_and_its_charts(files: Path) -> None:
    result = CliRunner().invoke(app, call(files, "--report", str(files / "out")))
    assert result.exit_code == 0, result.output
    out = files / "out"
    assert {path.name for path in out.iterdir()} == FILES
    page = (out / "report.md").read_text()
    assert "| cost | $" in page
    assert "![cost](cost.svg)" in page
    figures = json.loads((out / "figures.json").read_text())
    assert (figures["fleet"], figures["completed"]) == ("fleet.yaml", 20)
    assert (out / "cost.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "cost.svg").read_text().startswith("<?xml")


def test_a_report_replaces_the_one_before_and_leaves_other_files_alone(files: Path) -> None:
    out = files / "out"
    out.mkdir()
    (out / "report.md").write_text("old")
    (out / "mine.txt").write_text("mine")
    assert CliRunner().invoke(app, call(files, "--report", str(out))).exit_code == 0
    assert {path.name for path in out.iterdir()} == {*FILES, "mine.txt"}
    assert (out / "report.md").read_text() != "old"


def test_two_fleet_files_are_in_one_report(files: Path) -> None:
    options = call(files, "--compare", str(files / "idle.yaml"), "--report", str(files / "out"), "--json")
    result = CliRunner().invoke(app, options)
    assert [each["fleet"] for each in json.loads(result.stdout)] == [
        str(files / n) for n in ("fleet.yaml", "idle.yaml")
    ]
    first, second = json.loads((files / "out" / "figures.json").read_text())
    assert (first["fleet"], second["fleet"]) == ("fleet.yaml", "idle.yaml")
    assert second["usd"] < first["usd"]
    assert "idle.yaml" in (files / "out" / "waiting.svg").read_text()


def test_the_same_seed_writes_the_same_bytes_whatever_the_hashes_of_a_process_are(files: Path) -> None:
    """Two processes, and nobody's own settings of matplotlib."""
    (files / "matplotlibrc").write_text("axes.facecolor: red\nsvg.hashsalt: other\n")

    def written(hashes: str) -> dict[str, bytes]:
        out = files / f"out{hashes}"
        options = call(
            files, f"--compare={files / 'idle.yaml'}", "--faults=chaos", "--seed=4", f"--report={out}", "--json"
        )
        environment = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(files)}
        done = subprocess.run(
            [sys.executable, "-m", "fleet", *options], env=environment, cwd=files, capture_output=True, check=True
        )
        said = [{**each, "wall_s": 0} for each in json.loads(done.stdout)]
        return {"said": json.dumps(said).encode()} | {path.name: path.read_bytes() for path in out.iterdir()}

    first, second = written("1"), written("2")
    assert set(first) == {*FILES, "said"}
    assert [name for name in first if first[name] != second[name]] == []


def test_events_tell_what_happened_when_and_why(files: Path) -> None:
    CliRunner().invoke(app, call(files, "--events", str(files / "e.jsonl")))
    events = [json.loads(line) for line in (files / "e.jsonl").read_text().splitlines()]
    assert (events[0]["at_s"], events[0]["kind"]) == (0.0, "instance.launching")
    assert events[0]["reason"]["code"] == "demand"
    assert sum(event["kind"] == "task.ended" for event in events) == 20
    assert [event["at_s"] for event in events] == sorted(event["at_s"] for event in events)


def test_a_directory_that_cannot_be_is_one_line(files: Path) -> None:
    result = CliRunner().invoke(app, call(files, "--report", str(files / "trace.csv" / "out")))
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).endswith("Not a directory; give a directory that can be written to")
    result = CliRunner().invoke(app, call(files, "--report", str(files / "trace.csv")))
    assert str(result.exception).endswith("File exists; give a directory that can be written to")


def test_without_matplotlib_a_report_says_what_to_install(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"install it with: pip install 'fleet\[report\]'"):
        report.prepare(files / "out")
    assert not (files / "out").exists()
