"""How long after a cloud's metadata server has said that it takes a machine back its tasks are signalled, and its dispatcher told.

A whole fleet on this machine for each sample: dispatcher, supervisor, four tasks, and EC2's metadata server (IMDSv2) as its documents
describe it. Time runs from the answer that holds the notice: how often a machine asks is Amazon's advice (every 5 s), and not measured.
A task is signalled when its own SIGTERM handler runs; the dispatcher is told when the notice is in its log of events.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import rig
from benchmarks.client import Client
from benchmarks.figures import line, spread
from benchmarks.rig import Centre
from tests.agent_hooks.clouds import Ec2

GOAL_TO_TASK_S, GOAL_TO_DISPATCHER_S = 1.0, 2.0
SAMPLES = 5
TASKS = 4
LEFT_S = 120.0  # what EC2 gives

FLEET_FILE = """\
listen: 127.0.0.1:0
agent: {mode: interpreter}
resources:
  gpu: {provider: local, gpus: 4, min_instances: 1, max_instances: 1, idle_timeout: never}
queues:
  train: {resources: [gpu], gpus: 1}
"""
SCRIPT = """\
trap 'date +%%s.%%N >%(place)s.new; mv %(place)s.new %(place)s.at; exit 0' TERM
touch %(place)s.runs
while :; do sleep 0.01; done
"""


def measure(is_quick: bool) -> Iterator[str]:
    to_task: list[float] = []
    to_dispatcher: list[float] = []
    for _ in range(1 if is_quick else SAMPLES):
        signalled, told = _sample()
        to_task += signalled
        to_dispatcher.append(told)
    for name, samples, goal in (
        ("notice.to_task_signalled", to_task, GOAL_TO_TASK_S),
        ("notice.to_dispatcher_told", to_dispatcher, GOAL_TO_DISPATCHER_S),
    ):
        yield line(name, max(samples), "s", goal=goal, **spread(samples))


def _sample() -> tuple[list[float], float]:
    """Seconds from the notice to each task, and to the dispatcher."""
    cloud = Ec2()
    try:
        with (
            rig.directory() as place,
            rig.centre(place, FLEET_FILE, {"FLEET_PROVIDER": "aws", "FLEET_METADATA_URL": cloud.url}) as centre,
        ):
            places = _run_tasks(centre, place)
            cloud.interrupt(left_s=LEFT_S)
            rig.wait_for("the tasks are signalled", lambda: all(_at(each).exists() for each in places))
            (event,) = rig.wait_for("the dispatcher is told", lambda: centre.events("instance.notice", after=0))
            said_at = cloud.said_at or 0.0
            return [float(_at(each).read_text()) - said_at for each in places], event.at.timestamp() - said_at
    finally:
        cloud.close()


def _run_tasks(centre: Centre, place: Path) -> list[Path]:
    """Where each will leave its word, once all run."""
    client = Client(centre.access)
    queue = rig.queues(client, ["train"])["train"]
    places = [place / f"task{number}" for number in range(TASKS)]
    for each in places:
        client.call("tasks.enqueue", task=rig.a_task(client, SCRIPT % {"place": each}), queue=queue)
    rig.wait_for("all tasks run", lambda: all(each.with_suffix(".runs").exists() for each in places))
    return places


def _at(place: Path) -> Path:
    return place.with_suffix(".at")
