"""A whole fleet under its cloud's notice: a real SDK task saves itself, goes back resumable, and goes on elsewhere."""

import importlib.util
import json
import time
from pathlib import Path

import pytest

from fleet.model import RunResult
from fleet.queues.base import Script, TaskStatus
from tests.agent_hooks.clouds import Ec2
from tests.system.ring import MakeRing
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("ring"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("clearml") is None, reason="clearml is not installed"),
]

TRAINING = """
import json, os, signal, sys, time
from clearml import Task
task = Task.init("ring", "training")
place = {place!r}
saved = json.load(open(place)) if os.path.exists(place) else {{"step": 0}}
step, resumes = saved["step"], int(os.environ["FLEET_RESUMES"])
def save(*_):
    with open(place + ".new", "w") as file:
        json.dump({{"step": step, "at": time.time()}}, file)
    os.rename(place + ".new", place)
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("goes on from", step, "resumes", resumes, flush=True)
while not (resumes and step >= saved["step"] + 3):
    time.sleep(0.2)
    step += 1
print("done", flush=True)
"""


def test_a_task_saves_itself_under_a_spot_notice_and_goes_on_on_the_machine_that_replaces_it(
    make_ring: MakeRing, tmp_path: Path
) -> None:
    cloud = Ec2(first_only=True)
    try:
        ring = make_ring(gpus=1, max_instances=2, idle="30s")
        ring.environment |= {"FLEET_PROVIDER": "aws", "FLEET_METADATA_URL": cloud.url}
        ring.start()
        place = tmp_path / "saved.json"
        described = Script(entry_point="train.py", binary="python3", diff=TRAINING.format(place=str(place)))
        task = ring.server.submit(name="training", project="ring", queue="train", script=described)
        wait_for(lambda: "goes on from 0 resumes 0" in ring.console(task), 90, "the task runs", every_s=0.3)
        cloud.interrupt(left_s=60)
        seen: list[TaskStatus] = []

        def is_saved() -> bool:
            seen.append(ring.state_of(task).status)
            return place.exists()

        wait_for(is_saved, 15, "the task saves itself")
        wait_for(lambda: seen.append(ring.state_of(task).status) or len(ring.runs(task)) == 2, 60, "it runs again")
        assert TaskStatus.COMPLETED not in seen
        assert ring.ends(task) == [TaskStatus.COMPLETED]
        runs = wait_for(lambda: all(run.ended_at for run in ring.runs(task)) and ring.runs(task), 20)
        assert [(run.result, run.exit_code) for run in runs] == [(RunResult.REQUEUED, 0), (RunResult.COMPLETED, 0)]
        step = json.loads(place.read_text())["step"]
        assert f"goes on from {step} resumes 1" in ring.console(task)
        first, second = (ring.store.instance(run.instance) for run in runs)
        assert first
        assert second
        assert first.end_reason
        assert first.id != second.id
        assert first.end_reason.code == "preempted"
        told = next(e for e in ring.store.events() if e.kind == "instance.notice")
        assert cloud.said_at
        signalled_s = json.loads(place.read_text())["at"] - cloud.said_at
        told_s = told.at.timestamp() - cloud.said_at
        print(f"notice to task signalled {signalled_s:.3f} s, to dispatcher told {told_s:.3f} s")
        assert signalled_s < 20  # how fast it is: `benchmarks notice`
        assert told_s < 20
        assert time.time() - cloud.said_at < 60
    finally:
        cloud.close()
