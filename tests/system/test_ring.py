"""The whole ring on one machine: a task goes in at a queue, a machine appears, runs it on its GPUs, and goes away."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

import psutil
import pytest

from fleet.model import Run, RunResult
from fleet.queues.base import TaskStatus
from tests.system.ring import FLEET_FILE, ROOT, MakeRing
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ring")]


def overlap(one: Run, other: Run) -> bool:
    """Whether two runs held their GPUs at the same time."""
    end = datetime.max.replace(tzinfo=UTC)
    return one.claimed_at < (other.ended_at or end) and other.claimed_at < (one.ended_at or end)


def assert_no_gpu_was_shared(runs: tuple[Run, ...]) -> None:
    for one, other in combinations(runs, 2):
        if one.instance == other.instance and set(one.gpus) & set(other.gpus):
            assert not overlap(one, other), (one, other)


def test_the_demo_does_all_that_it_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleet", "demo", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert sorted(t["status"] for t in outcome["tasks"]) == ["completed"] * 4 + ["failed"]
    assert {i["state"] for i in outcome["instances"]} == {"gone"}
    assert outcome["shortcomings"] == []


def test_eight_tasks_run_four_at_a_time_each_on_its_own_gpu(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=4).start()
    tasks = [ring.bash('echo "I see $CUDA_VISIBLE_DEVICES"; sleep 2') for _ in range(8)]
    assert ring.ends(*tasks) == ["completed"] * 8
    runs = wait_for(lambda: len([r for r in ring.runs() if r.ended_at]) == 8 and ring.runs())
    assert_no_gpu_was_shared(runs)
    assert max(sum(overlap(one, other) for other in runs) for one in runs) >= 4
    for run in runs:
        assert len(run.gpus) == 1
        assert f"I see {run.gpus[0]}" in ring.console(run.task)
    assert len(ring.instances()) == 1


def test_a_task_of_two_gpus_shares_a_machine_with_tasks_of_one(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=4).start()
    script = 'echo "I see $CUDA_VISIBLE_DEVICES"; sleep 3'
    tasks = [ring.bash(script), ring.bash(script, queue="double"), ring.bash(script)]
    assert ring.ends(*tasks) == ["completed"] * 3
    runs = wait_for(lambda: len([r for r in ring.runs() if r.ended_at]) == 3 and ring.runs())
    assert_no_gpu_was_shared(runs)
    (double,) = [r for r in runs if r.queue == "double"]
    assert len(double.gpus) == 2
    assert f"I see {','.join(double.gpus)}" in ring.console(double.task)
    assert all(overlap(double, other) for other in runs)
    assert len(ring.instances()) == 1


def test_halves_share_gpus_two_by_two_and_a_task_of_a_whole_one_waits_until_one_is_free(
    make_ring: MakeRing, tmp_path: Path
) -> None:
    ring = make_ring(gpus=2).start()
    script = f'echo "I see $CUDA_VISIBLE_DEVICES, $FLEET_GPU_SHARE of it"; until [ -e {tmp_path}/gate-$N ]; do sleep 0.1; done'
    halves = [ring.bash(f"N={n}; {script}", tags=["gpus:0.5"]) for n in range(4)]
    wait_for(lambda: all("of it" in ring.console(t) for t in halves), 60, what="four halves run")
    whole = ring.bash("echo mine alone")
    held = wait_for(lambda: next((h for h in ring.store.turns().holds if h.task == whole), None), what="a hold for it")
    heard_at = held.since + timedelta(seconds=1)
    wait_for(
        lambda: (ring.instances()[0].heartbeat_at or held.since) > heard_at, 30, what="its machine has heard of it"
    )
    late = ring.bash("echo after the whole one", tags=["gpus:0.5"])
    (tmp_path / "gate-0").touch()
    assert ring.ends(halves[0]) == ["completed"]
    assert {ring.state_of(t).status for t in (whole, late)} == {TaskStatus.QUEUED}
    gpus = [run.gpus for task in halves for run in ring.runs(task)]
    assert sorted(map(gpus.count, gpus)) == [2] * 4
    (sibling,) = (n for n in range(1, 4) if gpus[n] == gpus[0])
    (tmp_path / f"gate-{sibling}").touch()
    assert ring.ends(whole, late) == ["completed"] * 2
    for n in range(1, 4):
        (tmp_path / f"gate-{n}").touch()
    assert ring.ends(*halves) == ["completed"] * 4
    runs = wait_for(lambda: len([r for r in ring.runs() if r.ended_at]) == 6 and {r.task: r for r in ring.runs()})
    for n, task in enumerate(halves):
        assert f"I see {gpus[n][0]}, 0.5 of it" in ring.console(task)
    assert runs[whole].gpus == gpus[0]
    assert not any(overlap(runs[whole], run) for run in runs.values() if run.gpus == gpus[0] and run != runs[whole])
    assert runs[late].claimed_at > runs[whole].claimed_at
    assert len({runs[task].worker for task in halves}) == 4
    assert len(ring.instances()) == 1


def test_a_cpu_task_sees_no_gpu(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start()
    task = ring.bash('echo "cuda=$CUDA_VISIBLE_DEVICES nvidia=$NVIDIA_VISIBLE_DEVICES"', queue="prep")
    assert ring.ends(task) == ["completed"]
    assert "cuda=none nvidia=none" in ring.console(task)


def test_an_idle_machine_is_gone_in_time_and_a_busy_one_is_left_alone(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1, idle="2s").start()
    task = ring.bash("sleep 7")
    assert ring.ends(task) == ["completed"]
    (instance,) = wait_for(lambda: [i for i in ring.instances() if i.gone_at], what="the machine goes")
    (run,) = ring.runs(task)
    assert run.ended_at
    assert instance.gone_at
    assert (run.ended_at - run.claimed_at).total_seconds() > 7
    assert (instance.gone_at - run.ended_at).total_seconds() < 2 + 2
    assert instance.end_reason
    assert instance.end_reason.code == "idle"


def test_a_dispatcher_that_is_killed_while_a_machine_boots_launches_no_second(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1, max_instances=5).start()
    task = ring.bash("sleep 3; echo done after all")
    wait_for(ring.instances, what="the intent")
    ring.kill()
    ring.start()
    assert ring.ends(task) == ["completed"]
    assert "done after all" in ring.console(task)
    assert len(ring.instances()) == 1
    assert len(list((ring.state / "local").iterdir())) == 1


def test_a_task_outlives_a_dispatcher_that_is_killed_and_no_line_is_lost(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1, max_instances=5).start()
    task = ring.bash('for i in $(seq 1 60); do echo "line $i"; sleep 0.1; done')
    wait_for(lambda: "line 5" in ring.console(task), what="the task logs")
    ring.kill()  # the embedded server with it
    ring.start()
    assert ring.ends(task) == ["completed"]
    wait_for(lambda: "line 60" in ring.console(task))
    lines = [line for line in ring.console(task).splitlines() if line.startswith("line ")]
    assert lines == [f"line {i}" for i in range(1, 61)]
    assert len(ring.instances()) == 1


def test_a_task_whose_machine_dies_runs_again_on_another(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start()
    task = ring.bash("echo started; sleep 4; echo finished")
    wait_for(lambda: "started" in ring.console(task), what="the task runs")
    (machine,) = (ring.state / "local").glob("*/machine.json")
    psutil.Process(json.loads(machine.read_text())["pid"]).kill()
    assert ring.ends(task) == ["completed"]
    first, second = ring.runs(task)
    assert first.result is RunResult.REQUEUED
    assert second.instance != first.instance
    assert "finished" in ring.console(task)


def test_an_operator_can_end_a_machine_and_its_task_goes_back(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start()
    task = ring.bash("echo started; sleep 3; echo finished")
    wait_for(lambda: "started" in ring.console(task), what="the task runs")
    (first,) = ring.instances()
    ring.fleet("terminate", "--yes", first.id)
    assert ring.ends(task) == ["completed"]
    assert [r.result for r in ring.runs(task)] == [RunResult.REQUEUED, RunResult.COMPLETED]


def test_a_drained_machine_finishes_its_task_and_takes_no_other(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1, idle="10m").start()
    task = ring.bash("echo started; sleep 3")
    wait_for(lambda: "started" in ring.console(task), what="the task runs")
    (first,) = ring.instances()
    ring.fleet("drain", first.id)
    wait_for(lambda: ring.instances()[0].stopped_pulling_at, what="it drains")
    later = ring.bash("echo later")
    assert ring.ends(task) == ["completed"]
    assert ring.ends(later) == ["completed"]
    assert ring.runs(later)[0].instance != first.id


def test_what_runs_when_a_drain_is_over_saves_itself_and_goes_on_elsewhere(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1, max_instances=2, idle="10m").start()
    task = ring.bash(
        'trap "echo saved; exit 0" TERM; echo "resumes $FLEET_RESUMES"; '
        'while [ "$FLEET_RESUMES" = 0 ]; do sleep 0.2; done; echo done'
    )
    wait_for(lambda: "resumes 0" in ring.console(task), what="the task runs")
    (first,) = ring.instances()
    ring.fleet("drain", first.id, "--within", "20s")
    assert ring.ends(task) == ["completed"]
    assert [run.result for run in ring.runs(task)] == [RunResult.REQUEUED, RunResult.COMPLETED]
    assert ring.runs(task)[1].instance != first.id
    said = ring.console(task)
    assert [word in said for word in ("saved", "resumes 1", "done")] == [True, True, True]
    drained = ring.store.instance(first.id)
    assert drained
    assert drained.end_reason
    assert drained.end_reason.code == "operator"


def test_tasks_that_no_machine_can_run_do_not_hide_those_behind_them(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start()
    too_large = [ring.bash("true", tags=["gpus:8"]) for _ in range(25)]
    task = ring.bash("echo behind them all")
    assert ring.ends(task) == ["completed"]
    assert {ring.state_of(t).status for t in too_large} == {TaskStatus.QUEUED}
    said = " ".join(ring.fleet("explain", too_large[0]).stdout.split())
    assert "needs 8 GPUs; the largest of its resources (gpu) has 1" in said


def test_a_kept_machine_does_not_end_for_idleness(make_ring: MakeRing) -> None:
    kept = FLEET_FILE.replace("usd_per_hour: 1,", "usd_per_hour: 1, min_instances: 1,")
    ring = make_ring(gpus=1, idle="1s", file=kept).start()
    assert ring.ends(ring.bash("sleep 3")) == ["completed"]
    (instance,) = ring.instances()
    assert instance.enrolled_at
    later = ring.bash("sleep 4")  # longer than its idle time
    assert ring.ends(later) == ["completed"]
    assert [i.id for i in ring.instances()] == [instance.id]


def test_an_abort_by_its_user_stops_a_running_task(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start()
    task = ring.bash("trap '' INT; echo started; sleep 120")
    wait_for(lambda: "started" in ring.console(task), what="the task runs")
    ring.fleet("abort", task)
    assert ring.ends(task) == ["stopped"]
    (run,) = wait_for(lambda: [r for r in ring.runs(task) if r.ended_at], what="the ledger knows")
    assert run.result is RunResult.STOPPED


UP_FILE = """\
cluster: ring
state_dir: {state}
listen: 127.0.0.1:{port}
agent: {{mode: interpreter}}
resources:
  workstation: {{provider: local, gpus: real, min_instances: 1, max_instances: 1, idle_timeout: never}}
queues:
  train: {{resources: [workstation], gpus: 0}}
"""
ON_A_LAPTOP = """\
from clearml import Task
task = Task.init(project_name="mine", task_name="from a laptop")
task.execute_remotely(queue_name="train")
print("hello from the other side", flush=True)
"""


def test_up_shares_this_machine_with_an_ordinary_script_on_a_laptop(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(file=UP_FILE).start("up")
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    ring.fleet("server", "credentials", "--write", str(laptop / "clearml.conf"))
    (laptop / "mine.py").write_text(ON_A_LAPTOP)
    environment = {**os.environ, "HOME": str(laptop), "CLEARML_CONFIG_FILE": str(laptop / "clearml.conf")}
    subprocess.run([sys.executable, "mine.py"], cwd=laptop, env=environment, check=True, timeout=120 * PATIENCE)
    (run,) = wait_for(lambda: [r for r in ring.runs() if r.ended_at], 120, what="the task runs")
    assert run.result is RunResult.COMPLETED
    assert "hello from the other side" in ring.console(run.task)
    assert ring.stop() == 0
    assert all(i.gone_at for i in ring.instances())


def test_dispatch_ends_with_code_0_and_leaves_its_machines_alone(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start()
    task = ring.bash("echo started; sleep 4; echo finished")
    wait_for(lambda: "started" in ring.console(task), what="the task runs")
    assert ring.stop() == 0
    ring.start()
    assert ring.ends(task) == ["completed"]
    assert len(ring.runs(task)) == 1


def test_a_task_that_fails_says_why_in_its_console(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start()
    task = ring.bash("echo before; echo a mistake >&2; exit 3")
    assert ring.ends(task) == ["failed"]
    assert "a mistake" in ring.console(task)
    (run,) = wait_for(lambda: [r for r in ring.runs(task) if r.ended_at])
    assert (run.result, run.exit_code) == (RunResult.FAILED, 3)
    assert ring.state_of(task).status is TaskStatus.FAILED


def test_up_shows_its_clearml_conf_to_a_person_and_not_to_a_log(make_ring: MakeRing) -> None:
    ring = make_ring(file=UP_FILE).start("up")
    secret = json.loads((ring.state / "credentials.json").read_text())["user"]["secret_key"]
    assert ring.stop() == 0
    assert secret not in (ring.place / "dispatch.log").read_text()
    leader, terminal = pty.openpty()
    up = subprocess.Popen(
        [sys.executable, "-m", "fleet", "up", "-c", "fleet.yaml"],
        cwd=ring.place,
        env=ring.environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while b"agent {" not in shown:
        shown += os.read(leader, 4096)
    up.terminate()
    assert up.wait(60 * PATIENCE) == 0
    os.close(leader)
    assert secret.encode() in shown


@pytest.mark.parametrize(("fairness", "first"), [("priority", {"train"}), ("shares", {"train", "other"})])
def test_queues_are_served_one_after_the_other_or_in_turn(make_ring: MakeRing, fairness: str, first: set[str]) -> None:
    more = "  other: {{resources: [gpu], gpus: 1}}\n"
    ring = make_ring(gpus=1, file=f"fairness: {fairness}\n{FLEET_FILE}{more}").start()
    gate = ring.place / "gate"
    before = ring.bash(f"until [ -e {gate} ]; do sleep 0.1; done", queue="double")
    tasks = [ring.bash("true", queue=queue) for queue in ("train", "other") for _ in range(3)]
    gate.touch()
    assert ring.ends(before, *tasks) == ["completed"] * 7
    runs = sorted((run for run in ring.runs() if run.task in tasks), key=lambda run: run.claimed_at)
    assert {run.queue for run in runs[:3]} == first
