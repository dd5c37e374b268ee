"""`fleet simulate`, as its user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.cli.app import app
from fleet.errors import ConfigError

DATA = Path(__file__).parents[3] / "shared" / "data"
FLEET = """
cluster: research
resources:
  box: {provider: local, gpus: 4, usd_per_hour: 2, max_instances: 1}
queues:
  train: {resources: [box], gpus: 1}
"""
CLOUD = """
cluster: research
resources:
  one: {provider: aws, region: us-east-1, instance_types: [g6.xlarge], image: ami-1}
  four: {provider: aws, region: us-east-1, instance_types: [g6.12xlarge], image: ami-1}
  eight: {provider: aws, region: us-east-1, instance_types: [g6.48xlarge], image: ami-1}
queues:
  train: {resources: [one, four, eight], gpus: 1}
"""
TRACE = "submit_s,gpus,duration_s\n" + "0,1,600\n" * 8
KEYS = (
    "tasks completed failed lost ran_twice_at_once busy_kills orphan_instance_s usd usd_lower_bound wait_mean_s "
    "wait_p50_s wait_p95_s makespan_s instances_launched gpu_hours_billed gpu_hours_used budget_overshoot_usd wall_s"
)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "trace.csv").write_text(TRACE)
    return ["simulate", "--config", str(tmp_path / "fleet.yaml"), "--trace", str(tmp_path / "trace.csv")]


def test_json_has_exactly_the_keys_of_the_design(files: list[str]) -> None:
    figures = json.loads(CliRunner().invoke(app, [*files, "--json"]).stdout)
    assert list(figures) == KEYS.split()
    assert (figures["usd"], figures["completed"], figures["wait_mean_s"]) == (1.1, 8, 480)


def test_people_get_a_table_that_fits(files: list[str]) -> None:
    result = CliRunner().invoke(app, [*files, "--boot-time", "90s"])
    assert "8 completed, 0 failed or never started, 0 lost" in result.stdout
    assert "$1.05" in result.stdout
    assert "BROKEN PROMISE" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_the_same_seed_gives_the_same_bytes_but_for_the_time_it_took(files: list[str]) -> None:
    def said(*options: str) -> str:
        return CliRunner().invoke(app, [*files, "--json", "--faults", "chaos", *options]).stdout.split('"wall_s"')[0]

    assert said("--seed", "5") == said("--seed", "5")


def test_a_task_that_never_starts_is_explained_in_one_line(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("submit_s,gpus,duration_s\n0,16,60\n0,1,60\n")
    result = CliRunner().invoke(app, [*files, "--json"])
    assert result.stderr == (
        "note: 1 task never started and count as failed: needs 16 GPUs; the largest of its resources (box) has 4\n"
    )
    assert json.loads(result.stdout)["failed"] == 1


def test_a_trace_without_tasks_is_nothing_and_that_is_said(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("submit_s,gpus,duration_s\n")
    result = CliRunner().invoke(app, [*files, "--json"])
    assert (json.loads(result.stdout)["tasks"], result.stderr) == (0, "note: there are no tasks in it\n")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--faults", "all"], "--faults all: there are none, spot, chaos"),
        (["--faults", "spto"], "--faults spto: did you mean spot?"),
        (["--boot-time", "3"], "--boot-time 3: a duration has a unit"),
        (["--checkpoint", "often"], "--checkpoint often: a duration has a unit"),
        (["--checkpoint", "0s"], "--checkpoint 0s: must be more than 0"),
        (["--trace", "nowhere.csv"], "nowhere.csv: cannot be read as a trace"),
        (["--prices", "nowhere.csv"], "nowhere.csv: cannot be read as a price file"),
        (["--compare", "nowhere.yaml"], "nowhere.yaml: No such file or directory"),
    ],
)
def test_a_wrong_flag_is_refused_in_one_line(files: list[str], options: list[str], why: str) -> None:
    result = CliRunner().invoke(app, [*files, *options])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(why)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "give one of --trace FILE, --workload KIND and --world SEED"),
        (["--trace", "x.csv", "--workload", "sweeps"], "give one of --trace FILE, --workload KIND and --world SEED"),
        (["--trace", "x.csv", "--days", "3"], "--days, --tasks and --out go with --workload KIND"),
        (["--trace", "x.csv", "--seed", "one"], "'one' is not a valid int"),
    ],
)
def test_wrong_usage_is_told_from_a_refusal(options: list[str], why: str) -> None:
    result = CliRunner().invoke(app, ["simulate", *options])
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.replace("\u2502", "").split())


def test_two_fleet_files_are_shown_side_by_side_in_a_hundred_columns(files: list[str], tmp_path: Path) -> None:
    long = tmp_path / ("a-rather-long-name-" * 5 + ".yaml")
    long.write_text(FLEET.replace("max_instances: 1", "max_instances: 2"))
    result = CliRunner().invoke(app, [*files, "--compare", str(long)])
    rows = {line.split("  ")[0]: line.split("  ")[1:] for line in result.stdout.splitlines()}
    assert [cell.strip() for cell in rows["cost"] if cell] == ["$1.10", "$1.53 (+39.4 %)"]
    assert max(map(len, result.stdout.splitlines())) <= 100
    twice = CliRunner().invoke(app, [*files, "--compare", str(tmp_path / "fleet.yaml")])
    assert (twice.exit_code, "is there twice" in twice.stderr) == (2, True)


def test_a_made_workload_is_simulated_or_written_as_a_trace_that_is(files: list[str], tmp_path: Path) -> None:
    options = ["simulate", "--workload", "sweeps", "--days", "1", "--tasks", "30", "--seed", "3"]
    at_once = CliRunner().invoke(app, [*options, "--config", files[2], "--json"])
    trace = tmp_path / "made.csv"
    assert "30 tasks written" in CliRunner().invoke(app, [*options, "-o", str(trace)]).stdout
    afterwards = CliRunner().invoke(app, [*files, "--trace", str(trace), "--json"])
    assert at_once.stdout.split('"wall_s"')[0] == afterwards.stdout.split('"wall_s"')[0]
    assert json.loads(at_once.stdout)["tasks"] == 30


@pytest.mark.parametrize("option", ["--events", "--out"])
def test_what_is_read_is_never_written_over(option: str, files: list[str], tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    (tmp_path / "link").symlink_to(fleet)
    asked = files if option == "--events" else ["simulate", *files[1:3], "--workload", "sweeps"]
    result = CliRunner().invoke(app, [*asked, option, str(tmp_path / "link")])
    assert str(result.exception) == (
        f"{option} {tmp_path / 'link'}: is a file that is read here, and would be overwritten; name another one"
    )
    assert fleet.read_text() == FLEET


@pytest.mark.parametrize("option", ["--events", "--out"])
def test_a_full_disk_is_one_line_and_leaves_no_half_file(option: str, files: list[str], tmp_path: Path) -> None:
    """/dev/full: what is written there finds no space."""
    asked = files if option == "--events" else ["simulate", "--workload", "sweeps", "--days", "1"]
    result = CliRunner().invoke(app, [*asked, option, "/dev/full"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(f"{option} /dev/full: No space left on device; ")
    gone = CliRunner().invoke(app, [*asked, option, str(tmp_path / "nowhere" / "x")])
    assert str(gone.exception).startswith(f"{option} {tmp_path / 'nowhere' / 'x'}: No such file or directory; ")


def test_a_trace_is_replaced_whole_also_where_a_link_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    options = ["simulate", "--workload", "sweeps", "--days", "1", "--tasks", "3", "-o"]
    assert CliRunner().invoke(app, [*options, str(tmp_path / "link.csv")]).exit_code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert len((tmp_path / "real.csv").read_text().splitlines()) == 4
    assert len(list(tmp_path.iterdir())) == 2


def test_a_random_world_is_told_event_by_event() -> None:
    result = CliRunner().invoke(app, ["simulate", "--world", "7"])
    assert result.exit_code == 0
    assert "resource r0: max" in result.stdout
    assert "instance.launching" in result.stdout
    assert "BROKEN PROMISE" not in result.stdout


def test_what_would_be_ignored_is_refused(files: list[str], tmp_path: Path) -> None:
    story, made = (
        ["simulate", "--world", "7"],
        ["simulate", "--workload", "sweeps", "--out", str(tmp_path / "made.csv")],
    )
    for asked in (
        [*story, "--json"],
        [*story, *files[1:3]],
        [*made, "--json"],
        [*made, "--report", str(tmp_path / "r")],
    ):
        refused = CliRunner().invoke(app, asked)
        assert (refused.exit_code, refused.stdout) == (2, "")
    assert not (tmp_path / "made.csv").exists()


def test_a_fleet_of_a_cloud_is_simulated_without_an_address_that_its_machines_could_call(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(CLOUD)
    (tmp_path / "trace.csv").write_text(TRACE)
    (tmp_path / "prices.csv").write_text(
        "instance_type,count,on_demand_usd_h\ng6.xlarge,1,0.8\ng6.12xlarge,4,4.6\ng6.48xlarge,8,13.4\n"
    )
    named = [f"--{name}={tmp_path / file}" for name, file in (("config", "fleet.yaml"), ("trace", "trace.csv"))]
    result = CliRunner().invoke(app, ["simulate", *named, f"--prices={tmp_path / 'prices.csv'}", "--json"])
    assert json.loads(result.stdout)["instances_launched"] == 8


@pytest.mark.skipif(not DATA.exists(), reason="shared/data is not beside this checkout")
def test_a_month_of_a_real_cluster_is_replayed_whole(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(CLOUD)
    trace, prices = DATA / "philly_6c71a0_30d.csv", DATA / "gpu_prices.csv"
    named = ["--config", str(tmp_path / "fleet.yaml"), "--trace", str(trace), "--prices", str(prices)]
    figures = json.loads(CliRunner().invoke(app, ["simulate", *named, "--json"]).stdout)
    assert (figures["tasks"], figures["completed"], figures["failed"]) == (2000, 1995, 5)
    assert (figures["lost"], figures["ran_twice_at_once"], figures["busy_kills"]) == (0, 0, 0)
    assert figures["usd_lower_bound"] < figures["usd"] < 1.5 * figures["usd_lower_bound"]
    assert figures["wait_p95_s"] < 200
