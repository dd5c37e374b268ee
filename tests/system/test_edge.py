"""The whole edge with real parts: a supervisor process, the stock clearml-agent, the embedded server, a small dispatcher."""

import importlib.util
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from fleet.model import AgentSettings, GpuNeed, Queue, Reason, RunResult
from fleet.queues.base import TaskStatus
from fleet.queues.tasks import records
from tests.fake_centre import FakeCentre
from tests.nvml import build
from tests.system.edge import CLUSTER
from tests.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("edge"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("fleet.server.serve") is None, reason="no embedded server here"),
]


def test_a_bash_task_runs_and_its_console_arrives(machine, clearml):
    task = clearml.submit("train", "echo hello; echo devices=$CUDA_VISIBLE_DEVICES/$NVIDIA_VISIBLE_DEVICES\n")
    here = machine()
    assert clearml.ended(task) == TaskStatus.COMPLETED
    assert "hello\ndevices=GPU-sim-m1-0/GPU-sim-m1-0\n" in clearml.log(task)
    run = wait_for(lambda: here.centre.runs.get(task), 20)[0]
    assert (run.result, run.exit_code, run.gpus) == (RunResult.COMPLETED, 0, ("GPU-sim-m1-0",))


def test_eight_tasks_on_four_gpus_run_four_at_a_time_each_with_its_own_device(machine, clearml, tmp_path):
    notes = tmp_path / "notes"
    note = f"echo $1 $CUDA_VISIBLE_DEVICES $(date +%s%N) >> {notes}"
    four = f"until [ $(grep -c start {notes}) -ge 4 ]; do sleep 0.1; done"  # the first wait for each other, the others do not
    script = f"note() {{ {note}; }}\nnote start; {four}; note end\n"
    tasks = [clearml.submit("train", script) for _ in range(8)]
    machine()
    assert {clearml.ended(task) for task in tasks} == {TaskStatus.COMPLETED}
    events = sorted((int(at), what, gpu) for what, gpu, at in map(str.split, notes.read_text().splitlines()))
    running: set[str] = set()
    most = 0
    for _, what, gpu in events:
        assert (gpu in running) == (what == "end"), "two tasks shared a GPU"
        running ^= {gpu}
        most = max(most, len(running))
    assert most == 4
    assert {gpu for *_, gpu in events} == {f"GPU-sim-m1-{i}" for i in range(4)}


def test_a_task_that_takes_more_memory_than_its_part_of_a_gpu_is_ended_and_its_neighbour_is_not(
    machine, clearml, tmp_path
):
    driver = build(tmp_path)
    (driver / "state").write_text("GPU-aaaa|NVIDIA A10|24576|1024|37|61|0\n")
    gate = tmp_path / "gate"
    # What a real driver would see of a process, the script tells ours itself.
    holds = 'echo "process|$FLEET_GPU_UUIDS|$$|{}" >> $FAKE_NVML_STATE; echo I may have $FLEET_GPU_MEMORY_LIMIT_MIB'
    script = f"{holds}; until [ -e {gate} ]; do sleep 0.1; done\n"
    modest, greedy = (clearml.submit("train", script.format(mib)) for mib in (12400, 13900))
    half = Queue(name="train", resources=("lab",), need=GpuNeed(at_least=0.5, at_most=0.5))
    here = machine(driver=driver, queues=(half,))
    assert clearml.ended(greedy) == TaskStatus.FAILED
    assert "I may have 12288" in clearml.log(greedy)
    why = "it uses 13.6 GiB of GPU memory; its share of the GPU, 0.5, is 12.0 GiB"
    assert why in clearml.log(greedy)
    assert why in records(clearml.client._transport, [greedy])[greedy].state.status_reason
    assert clearml.status(modest) == TaskStatus.IN_PROGRESS
    gate.touch()
    assert clearml.ended(modest) == TaskStatus.COMPLETED
    (run,) = wait_for(lambda: here.centre.runs.get(greedy), 20)
    assert (run.result, run.gpus) == (RunResult.FAILED, ("GPU-aaaa",))


def test_a_drain_that_is_taken_back_while_a_task_runs_lets_the_next_task_in(machine, clearml, tmp_path):
    gate = tmp_path / "gate"
    first = clearml.submit("train", f"until [ -e {gate} ]; do sleep 0.1; done\n")
    here = machine('{"count": 2}')
    wait_for(lambda: here.agents(), 20, "the first task runs")
    here.centre.drain = Reason(code="budget_drain", text="the money does not last")
    wait_for(lambda: not here.centre.heartbeats[-1].is_pulling, 20, "it pulls no more")
    second = clearml.submit("train", "echo second\n")
    here.centre.drain = None
    assert clearml.ended(second) == TaskStatus.COMPLETED
    beat = here.centre.heartbeats[-1]
    assert (beat.is_pulling, beat.is_ending, beat.reason) == (True, False, None)
    gate.touch()
    assert clearml.ended(first) == TaskStatus.COMPLETED


def test_a_task_of_two_gpus_runs_beside_tasks_of_one(machine, clearml, tmp_path):
    gate = tmp_path / "gate"
    script = f"echo devices=$CUDA_VISIBLE_DEVICES; until [ -e {gate} ]; do sleep 0.1; done\n"
    tasks = [clearml.submit(queue, script) for queue in ("train", "train", "big")]
    here = machine()
    wait_for(lambda: len(here.centre.heartbeats[-1].allocations) == 3 and len(here.agents()) >= 3, 20)
    gpus = [a.gpus for a in here.centre.heartbeats[-1].allocations]
    assert sorted(map(len, gpus)) == [1, 1, 2]
    assert len({gpu for each in gpus for gpu in each}) == 4
    gate.touch()
    assert {clearml.ended(task) for task in tasks} == {TaskStatus.COMPLETED}
    assert "devices=GPU-sim-m1-0,GPU-sim-m1-1\n" in clearml.log(tasks[2])


def test_a_cpu_task_sees_no_device_and_no_secret_of_the_machine(machine, clearml):
    task = clearml.submit("prep", "env | sort; ls -l $CLEARML_CONFIG_FILE\n")
    here = machine()
    wait_for(here.agents, 20)
    arguments = [" ".join(process.cmdline()) for process in here.agents()]
    clearml.ended(task)
    seen = clearml.log(task)
    assert "\nCUDA_VISIBLE_DEVICES=none\n" in seen
    assert "\nNVIDIA_VISIBLE_DEVICES=none\n" in seen
    assert f"\nCLEARML_WORKER_ID={CLUSTER}:lab:m1:cpu:0\n" in seen
    assert "FLEET_JOIN_TOKEN" not in seen
    assert "-rw------- 1" in seen
    secret = here.centre.enrolled.server.secret_key
    assert arguments
    assert [line for line in arguments if secret in line] == []


def test_a_script_that_raises_fails_with_its_traceback_in_the_console(machine, clearml):
    task = clearml.submit(
        "train", "import os\nprint('here', os.getpid())\nraise ValueError('no such luck')\n", "python3"
    )
    here = machine()
    assert clearml.ended(task) == TaskStatus.FAILED
    console = clearml.log(task)
    assert "Traceback (most recent call last)" in console
    assert "ValueError: no such luck" in console
    assert "process failed, exit code 1" in console
    run = wait_for(lambda: here.centre.runs.get(task), 20)[0]
    assert (run.result, run.exit_code) == (RunResult.FAILED, 1)


def test_its_user_stops_a_running_task_within_seconds(machine, clearml):
    task = clearml.submit("train", "trap '' TERM\nsleep 600 & echo running; wait; wait; sleep 600\n")
    here = machine()
    wait_for(lambda: "running" in clearml.log(task), 30)
    clearml.abort(task)
    assert clearml.ended(task, 10) == TaskStatus.STOPPED
    assert here.agents() == []
    assert wait_for(lambda: here.centre.runs.get(task), 20)[0].result is RunResult.STOPPED


CALLBACK = """
import time
from clearml import Task
task = Task.init("tests", "callback", reuse_last_task_id=False)
def save():
    time.sleep(3)
    print("saved everything", flush=True)
task.register_abort_callback(save, callback_execution_timeout=30)
print("running", flush=True)
time.sleep(600)
"""


def test_an_abort_callback_may_finish_before_the_task_is_ended(machine, clearml):
    pytest.importorskip("clearml")
    task = clearml.submit("train", CALLBACK, "python3")
    machine()
    wait_for(lambda: "running" in clearml.log(task), 60)
    wait_for(lambda: clearml.client.states([task])[task].abort_callback_timeout_s, 10)
    clearml.abort(task)
    assert clearml.ended(task, 40) == TaskStatus.STOPPED
    assert "saved everything" in clearml.log(task)


def test_without_server_and_dispatcher_tasks_and_machine_end_at_the_deadline(machine, clearml, server):
    task = clearml.submit("train", "echo running; sleep 600\n")
    here = machine(contact_timeout=timedelta(seconds=4))
    wait_for(lambda: "running" in clearml.log(task), 30)
    here.centre.is_down = True
    server.kill()
    assert here.process.wait(40 * PATIENCE) == 0  # 4 s to the deadline, then grace, last reports, goodbye
    assert here.agents() == []
    server.start()
    assert clearml.status(task) == TaskStatus.IN_PROGRESS  # the dispatcher's sweep gives it away
    assert "code=contact_lost" in here.log.read_text()
    clearml.client.put_back(task, "train", "its machine is gone")
    clearml.abort(task)


def test_a_task_that_is_reset_while_it_runs_is_ended_and_stays_reset(machine, clearml):
    task = clearml.submit("train", "echo running; sleep 600\n")
    here = machine()
    wait_for(lambda: "running" in clearml.log(task), 30)
    clearml.client._transport.call("tasks.reset", {"task": task, "force": True})
    wait_for(lambda: not here.agents(), 15)
    wait_for(lambda: not here.centre.heartbeats[-1].allocations, 10)
    assert clearml.status(task) == TaskStatus.CREATED


def test_the_server_dies_in_mid_task_and_no_line_is_lost(machine, clearml, server):
    task = clearml.submit("train", "for i in $(seq 1 120); do echo line $i; sleep 0.05; done\n")
    machine()
    wait_for(lambda: "line 10\n" in clearml.log(task), 30)
    server.kill()
    wait_for(lambda: not server.is_up(), 20)
    server.start()
    assert clearml.ended(task) == TaskStatus.COMPLETED
    lines = [line for line in clearml.log(task).splitlines() if line.startswith("line ")]
    assert lines == [f"line {i}" for i in range(1, 121)]


def test_an_idle_machine_ends_itself_in_time(machine):
    here = machine(idle_timeout=timedelta(seconds=2))
    assert here.process.wait(2 + 2) == 0
    assert here.centre.goodbye.reason.code == "idle"
    assert not here.centre.goodbye.is_pulling


def test_sigterm_lets_tasks_finish_and_takes_no_more(machine, clearml, tmp_path):
    gate = tmp_path / "gate"
    running = clearml.submit("train", f"echo running; until [ -e {gate} ]; do sleep 0.1; done\n")
    here = machine('{"count": 2}')
    wait_for(lambda: "running" in clearml.log(running), 30)
    here.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not here.centre.heartbeats[-1].is_pulling, 20)
    late = clearml.submit("train", "echo too late\n")
    gate.touch()
    assert here.process.wait(20 * PATIENCE) == 0
    assert clearml.status(running) == TaskStatus.COMPLETED
    assert clearml.status(late) == TaskStatus.QUEUED
    clearml.abort(late)


def test_a_second_sigterm_puts_the_tasks_back(machine, clearml):
    task = clearml.submit("train", "echo running; sleep 600\n")
    here = machine()
    wait_for(lambda: "running" in clearml.log(task), 30)
    here.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not here.centre.heartbeats[-1].is_pulling, 20)
    here.process.send_signal(signal.SIGTERM)
    assert here.process.wait(20 * PATIENCE) == 0
    assert here.agents() == []
    assert clearml.status(task) == TaskStatus.QUEUED
    assert wait_for(lambda: here.centre.runs.get(task), 20)[0].result is RunResult.REQUEUED
    clearml.abort(task)


def test_a_machine_that_is_refused_puts_its_tasks_back_and_ends(machine, clearml):
    task = clearml.submit("train", "echo running; sleep 600\n")
    here = machine()
    wait_for(lambda: "running" in clearml.log(task), 30)
    here.centre.is_refusing = True
    assert here.process.wait(20 * PATIENCE) == 0
    assert clearml.status(task) == TaskStatus.QUEUED
    clearml.abort(task)


def test_kill_9_of_the_supervisor_leaves_no_agent(machine, clearml):
    task = clearml.submit("train", "sleep 600 & sleep 601 & echo running; wait\n")
    here = machine()
    wait_for(lambda: "running" in clearml.log(task), 30)
    assert len(here.agents()) >= 3
    here.process.kill()
    here.process.wait()
    wait_for(lambda: not here.agents(), 20, "all processes of its tasks are gone")
    clearml.abort(task)


def test_what_left_the_group_of_a_task_ends_with_it(machine, clearml):
    task = clearml.submit("train", "setsid sleep 600 & echo left $!\n")
    here = machine()
    assert clearml.ended(task) == TaskStatus.COMPLETED
    wait_for(lambda: not here.agents(), 20)


def test_a_hint_starts_an_agent_at_once(machine, clearml):
    here = machine(poll_interval=timedelta(seconds=60))
    wait_for(lambda: not here.centre.heartbeats[-1].allocations and len(here.centre.heartbeats) > 1, 10)
    task = clearml.submit("train", "echo hello\n")
    here.centre.give_hint()
    run = wait_for(lambda: here.centre.runs.get(task), 30)[0]
    assert (run.started_at - run.enqueued_at).total_seconds() < 20  # 0.03 s on an idle machine; poll_interval is 60 s


def test_a_hook_before_the_task_that_fails_puts_it_back_until_it_counts_as_failed(machine, clearml, tmp_path):
    hook = tmp_path / "m1" / "hooks" / "pre-task" / "10-scratch"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\necho no scratch disk for $FLEET_TASK_ID on $FLEET_GPU_INDICES\nexit 3\n")
    hook.chmod(0o755)
    task = clearml.submit("train", "echo hello\n")
    here = machine()
    assert clearml.ended(task) == TaskStatus.FAILED
    results = [run.result for run in wait_for(lambda: len(here.centre.runs[task]) == 3 and here.centre.runs[task], 20)]
    assert results == [RunResult.REQUEUED, RunResult.REQUEUED, RunResult.FAILED]
    assert f"no scratch disk for {task} on 0" in clearml.log(task)


def test_a_claim_is_held_by_signs_of_life_while_what_comes_before_the_task_takes_long(machine, clearml, tmp_path):
    gate = tmp_path / "gate"
    hook = tmp_path / "m1" / "hooks" / "pre-task" / "10-data"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\nuntil [ -e {gate} ]; do sleep 0.2; done\n")
    hook.chmod(0o755)
    task = clearml.submit("train", "echo hello\n")
    here = machine()
    claimed = wait_for(lambda: here.centre.heartbeats[-1].allocations, 20, "it is claimed")[0].started_at
    soon, later = claimed + timedelta(seconds=10), claimed + timedelta(seconds=20)
    held = wait_for(lambda: (at := clearml.client.states([task])[task].last_update) > soon and at, 25, "a sign of life")
    assert held < later
    assert clearml.status(task) == TaskStatus.QUEUED
    gate.touch()
    assert clearml.ended(task) == TaskStatus.COMPLETED


@pytest.mark.parametrize("meanwhile", ["stopped by its user", "given to another"])
def test_what_becomes_of_a_task_while_it_is_made_ready_stays(machine, clearml, tmp_path, meanwhile):
    """Its claim lapses where the server is not reached for long; and an image may be pulled for minutes."""
    gate = tmp_path / "gate"
    hook = tmp_path / "m1" / "hooks" / "pre-task" / "10-data"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\nuntil [ -e {gate} ]; do sleep 0.2; done\n")
    hook.chmod(0o755)
    task = clearml.submit("train", "sleep 600\n")
    here = machine()
    wait_for(lambda: here.centre.heartbeats[-1].allocations, 20, "it is claimed")
    if meanwhile == "given to another":
        clearml.client.started(task, "another:gpu0", "its agent was started")
        clearml.client.report("another:gpu0", task, (), {}, datetime.now(UTC))
        ours, theirs = RunResult.REQUEUED, (TaskStatus.IN_PROGRESS, "another:gpu0")
    else:
        clearml.abort(task)
        ours, theirs = RunResult.STOPPED, (TaskStatus.STOPPED, None)
    gate.touch()
    (run,) = wait_for(lambda: here.centre.runs.get(task), 60, "its attempt ends")
    assert run.result is ours
    state = clearml.client.states([task])[task]
    assert (state.status, state.last_worker) == theirs
    assert here.agents() == []


def test_a_machine_whose_agent_cannot_run_says_so_and_ends(machine):
    here = machine(agent=AgentSettings(mode="interpreter", python="/no/python"))
    assert here.process.wait(10 * PATIENCE) == 1
    text = "agent.python /no/python is not on this machine; put it in the image"
    assert here.centre.goodbye.reason.text == text
    assert here.log.read_text().splitlines()[-1] == f"fleet supervise: {text}"


def test_a_machine_that_is_not_expected_is_refused_in_one_line(machine):
    here = machine()
    here.stop()
    here.centre = FakeCentre(here.centre.enrolled, join_token="another")
    environment = {
        **os.environ,
        "FLEET_CENTRE_URL": here.centre.url,
        "FLEET_INSTANCE": "m1",
        "FLEET_JOIN_TOKEN": "join",
    }
    command = [sys.executable, "-m", "fleet.supervisor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20 * PATIENCE, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith('answered 403 {"error": "this machine is not expected"}')
    assert "Traceback" not in done.stderr
