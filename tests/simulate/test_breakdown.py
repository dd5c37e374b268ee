"""Where the waiting and the money went: parts that add up to the figures, and the limits at which people waited."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.cli.app import app
from fleet.cli.figures import parts
from fleet.model import MarketPolicy
from fleet.simulate.breakdown import Breakdown, LimitPart, breakdown_of
from fleet.simulate.workload import make_workload
from tests.builders import a_queue, a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, harsh, jobs, run, spot_and_on_demand

FLEET = """
cluster: research
budget: {max_instances: 1}
resources:
  box: {provider: local, gpus: 4, usd_per_hour: 2}
queues:
  train: {resources: [box], gpus: 1}
  prep: {resources: [box], gpus: 1}
"""


def test_the_parts_add_up_to_the_figures() -> None:
    setting = a_setting(make_workload(60, 0.3, seed=3, sizes={1: 3, 4: 1}), a_fleet(max_instances=2), faults=harsh(3))
    figures, outcome = run(setting)
    found = breakdown_of(setting, outcome)
    (queue,) = found.queues
    assert (queue.tasks, queue.started) == (60, len(outcome.truth.first_start))
    assert (queue.wait_mean_s, queue.wait_p95_s) == pytest.approx((figures.wait_mean_s, figures.wait_p95_s), abs=1e-3)
    assert sum(kind.usd for kind in found.kinds) == pytest.approx(figures.usd, abs=1e-3)
    assert sum(kind.instances for kind in found.kinds) == figures.instances_launched
    hours = sum((kind.used or 0) * kind.hours * 4 for kind in found.kinds)
    assert hours == pytest.approx(figures.gpu_hours_used, abs=1e-3)


def test_each_queue_has_the_waiting_of_its_own_tasks_and_one_without_tasks_no_row() -> None:
    queues = [a_queue(name) for name in ("train", "big", "empty")]
    workload = [*jobs(1, 1, submit_s=0), *jobs(4, 16, submit_s=100, queue="big")]
    setting = a_setting(workload, a_fleet(queues=queues))
    train, big = breakdown_of(setting, run(setting)[1]).queues
    assert (train.queue, train.tasks, train.started, train.wait_p95_s) == ("train", 2, 2, 180)
    assert (big.queue, big.tasks, big.started, big.wait_mean_s) == ("big", 2, 1, 180)


def test_a_limit_is_named_with_the_time_in_which_it_was_reached_and_the_waiting_that_fell_into_it() -> None:
    """Three tasks of ten minutes for one machine: the first waits for its boot, the others for the machine."""
    setting = a_setting(jobs(4, 4, 4), a_fleet(max_instances=1))
    _, outcome = run(setting)
    (limit,) = breakdown_of(setting, outcome).limits
    (life,) = outcome.truth.lives.values()
    assert life.ended_at is not None
    assert limit.limit == "budget.max_instances: 1"
    assert limit.reached_s == (life.ended_at - life.launched_at).total_seconds()
    assert limit.waiting == pytest.approx(1.0)


def test_a_limit_that_was_reached_while_nobody_waited_is_not_named() -> None:
    setting = a_setting(jobs(1), a_fleet(max_instances=1))
    assert [part.limit for part in breakdown_of(setting, run(setting)[1]).limits] == ["budget.max_instances: 1"]
    two = a_setting(jobs(1), a_fleet(max_instances=2))
    assert breakdown_of(two, run(two)[1]).limits == ()


def test_dollars_an_hour_are_reached_where_not_even_the_cheapest_machine_can_be_added() -> None:
    setting = a_setting(jobs(4, 4, 4), a_fleet(usd_per_hour=5.0))  # of machines at $2 an hour: two
    found = breakdown_of(setting, run(setting)[1])
    assert [part.limit for part in found.limits] == ["budget.usd_per_hour: 5"]
    assert found.limits[0].waiting > 0.5


def test_a_limit_of_a_resource_concerns_those_whose_queues_it_serves() -> None:
    small, large = a_resource("small", max_instances=1), a_resource("large")
    queues = [a_queue("train", resources=("small",)), a_queue("big", resources=("large",))]
    workload = [*jobs(4, 4), *jobs(4, 4, 4, submit_s=0, queue="big")]
    offers = [an_offer("small"), an_offer("large")]
    setting = a_setting(workload, a_fleet([small, large], queues), offers)
    (limit,) = breakdown_of(setting, run(setting)[1]).limits
    assert (limit.limit, limit.waiting) == ("resources.small.max_instances: 1", pytest.approx(1.0))


def test_what_was_cut_short_is_told_with_what_had_to_be_done_again() -> None:
    workload, offers = jobs(*[4] * 8, duration_s=3000), spot_and_on_demand(4, 2.0)
    policy = a_fleet([a_resource(market=MarketPolicy.SPOT)])
    lossy = a_setting(workload, policy, offers, faults=harsh(2))
    keeping = replace(lossy, checkpoint=timedelta(minutes=1))
    found, kept = (breakdown_of(setting, run(setting)[1]) for setting in (lossy, keeping))
    assert found.cut_short > 0
    assert found.redone_gpu_hours > 0
    assert kept.redone_gpu_hours < found.redone_gpu_hours
    assert f"cut short  {found.cut_short} run" in parts(found)
    quiet = a_setting(workload)
    assert "cut short" not in parts(breakdown_of(quiet, run(quiet)[1]))


def test_people_see_their_queues_the_machines_and_the_limit_below_the_figures(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "wide.yaml").write_text(FLEET.replace("max_instances: 1", "max_instances: 2"))
    (tmp_path / "trace.csv").write_text("submit_s,gpus,duration_s,queue\n" + "0,4,600,train\n0,4,600,prep\n")
    named = ["--config", str(tmp_path / "fleet.yaml"), "--trace", str(tmp_path / "trace.csv")]
    out = CliRunner().invoke(app, ["simulate", *named, "--report", str(tmp_path / "out")]).stdout
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "train 1 1 3m 3m 3m" in lines
    assert "box local-4gpu on_demand 1 0.6 $1.10 61 %" in lines
    assert lines[-1] == "budget.max_instances: 1 33m 100 %"
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| budget.max_instances: 1 | 1,980 s | 100.0 % |" in page
    assert "| prep | 1 | 1 | " in page
    both = CliRunner().invoke(app, ["simulate", *named, "--compare", str(tmp_path / "wide.yaml")]).stdout
    assert "/fleet.yaml budget.max_instances: 1 33m 100 %" in " ".join(both.split())
    assert max(map(len, both.splitlines())) <= 100


def test_a_simulation_of_nothing_has_nothing_below() -> None:
    assert parts(Breakdown(queues=(), kinds=(), limits=())) == ""
    little = LimitPart(limit="budget.max_instances: 9", reached_s=30, waiting=0.001)
    assert "under 1 %" in parts(Breakdown(queues=(), kinds=(), limits=(little,)))
