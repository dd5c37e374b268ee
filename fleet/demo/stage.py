"""The demo's stage: a centre of its own on a free port, the toy task registered and cloned through the real SDK, and a
loop that watches until everything that should happen has happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.model import Event, Instance, Run, ServerAccess
from fleet.queues.base import TaskState, TaskStatus

HERE = Path(__file__).parent
FINAL = {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.STOPPED, TaskStatus.CLOSED, TaskStatus.PUBLISHED}
DEADLINE = timedelta(minutes=4)  # for slow machines; it takes well under 90 s on two cores
LOOK_EVERY_S = 0.2
SDK_WITHIN_S = 120.0

FLEET_FILE = """\
cluster: demo
server: {url: embedded}
listen: 127.0.0.1:0
poll_interval: 1s
budget: {max_instances: 4, usd_per_hour: 10}
agent: {mode: interpreter}
resources:
  gpu: {provider: local, gpus: 2, gpu_model: Simulated A10, gpu_memory: 24, usd_per_hour: 2.40, max_instances: 2, idle_timeout: 3s}
  cpu: {provider: local, gpus: 0, usd_per_hour: 0.20, max_instances: 1, idle_timeout: 3s}
queues:
  train: {resources: [gpu], gpus: 1, priority: 10}
  prep: {resources: [cpu], gpus: 0}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One task of the demo, and what should become of it."""

    name: str
    queue: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    expected: TaskStatus = TaskStatus.COMPLETED


WISHES = (
    Wish(name="train one", queue="train", parameters={"steps": 4}),
    Wish(name="train two", queue="train", parameters={"steps": 6}),
    Wish(name="train three", queue="train", parameters={"steps": 4}),
    Wish(name="prepare data", queue="prep", parameters={"steps": 3}),
    Wish(name="bound to fail", queue="prep", parameters={"steps": 2, "fail": 1}, expected=TaskStatus.FAILED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that there is to see at one moment."""

    tasks: Mapping[str, Wish]  # by id
    states: Mapping[str, TaskState]
    instances: tuple[Instance, ...]
    runs: tuple[Run, ...]
    events: tuple[Event, ...]  # new ones
    consoles: Mapping[str, str]  # of final tasks, by id

    @property
    def is_over(self) -> bool:
        """Every task has its end, every instance is gone, and every console has arrived."""
        ended = all(t in self.states and self.states[t].status in FINAL for t in self.tasks)
        return ended and all(i.gone_at for i in self.instances)


class Sdk:
    """The real SDK, in processes of its own, as a user's laptop would run it."""

    def __init__(self, access: ServerAccess, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "HOME": str(directory),  # its own clearml.conf and caches, not the user's
            "CLEARML_CONFIG_FILE": str(directory / "clearml.conf"),
            "CLEARML_API_HOST": access.api_url,
            "CLEARML_WEB_HOST": access.web_url,
            "CLEARML_FILES_HOST": access.files_url,
            "CLEARML_API_ACCESS_KEY": access.access_key,
            "CLEARML_API_SECRET_KEY": access.secret_key,
            "CLEARML_API_DEFAULT_REQ_METHOD": "POST",
        }

    def register(self) -> None:
        """Run the toy script once: the SDK registers it as a draft and stops it."""
        shutil.copy(
            HERE / "toy.py", self.directory / "toy.py"
        )  # outside of any git repository: the script travels whole
        self._python("toy.py")

    def enqueue(self, wishes: Sequence[Wish]) -> dict[str, Wish]:
        """Clone the draft and enqueue the clones; the wishes by task id."""
        asked = [{"name": w.name, "queue": w.queue, "parameters": dict(w.parameters)} for w in wishes]
        ids = json.loads(self._python(str(HERE / "enqueue.py"), json.dumps(asked)).splitlines()[-1])
        return dict(zip(ids, wishes, strict=True))

    def _python(self, *arguments: str) -> str:
        """What it printed. Where we leave first, nothing of it is left: the SDK forks, and what it forked would try for minutes to
        reach a server that is gone.

        Raises:
            FleetError: it failed, or took too long.
        """
        with subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=SDK_WITHIN_S)
            except subprocess.TimeoutExpired as error:
                raise FleetError(
                    f"the ClearML SDK did not end {arguments[0]} within {SDK_WITHIN_S:g} s; is this machine very busy?"
                ) from error
            finally:
                if process.returncode is None:  # we leave before it does
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode != 0:
            last = (err.strip() or out.strip()).splitlines()[-1:] or ["it said nothing"]
            raise FleetError(f"the ClearML SDK failed at {arguments[0]}: {last[0]}")
        return out


def watch(look: Callable[[], Scene], show: Callable[[Scene], None]) -> Scene:
    """Show every change until the demo is over, or its deadline; the last scene."""
    deadline = time.monotonic() + DEADLINE.total_seconds()
    while True:
        scene = look()
        show(scene)
        if scene.is_over or time.monotonic() > deadline:
            return scene
        time.sleep(LOOK_EVERY_S)


def shortcomings(scene: Scene) -> list[str]:
    """What should have happened and did not; empty when the demo may say that it worked."""
    found: list[str] = []
    for task, wish in scene.tasks.items():
        found += [f"{wish.name}: {what}" for what in _task_shortcomings(task, wish, scene)]
    for instance in scene.instances:
        if not instance.gone_at:
            found.append(f"instance {instance.id} is still there")
        elif not instance.end_reason or instance.end_reason.code != "idle":
            found.append(f"instance {instance.id} did not end for idleness: {instance.end_reason}")
    if not scene.instances:
        found.append("no instance was launched")
    return found


def _task_shortcomings(task: str, wish: Wish, scene: Scene) -> list[str]:
    state = scene.states.get(task)
    if state is None or state.status != wish.expected:
        return [f"is {state.status if state else 'unknown to the server'}, not {wish.expected}"]
    runs = [r for r in scene.runs if r.task == task]
    if len(runs) != 1:
        return [f"ran {len(runs)} times, not once"]
    wanted = ",".join(runs[0].gpus) or "none"
    console = scene.consoles.get(task, "")
    steps = [f"step {n} of {wish.parameters['steps']}" for n in range(1, int(str(wish.parameters["steps"])) + 1)]
    lines = [f"devices: {wanted}", *steps]
    if wish.expected is TaskStatus.FAILED:
        lines += ["Traceback (most recent call last)", "RuntimeError: this task was asked to fail"]
    else:
        lines.append("training done")
    missing = [line for line in lines if line not in console]
    return [f"its console lacks {line!r}" for line in missing]


def as_json(scene: Scene) -> dict[str, Any]:
    """The outcome for programs: what a reader of `--json` gets."""
    return {
        "tasks": [
            {
                "task": t,
                "name": w.name,
                "queue": w.queue,
                "status": scene.states[t].status if t in scene.states else None,
            }
            for t, w in scene.tasks.items()
        ],
        "instances": [{"id": i.id, "resource": i.resource, "state": i.state} for i in scene.instances],
        "shortcomings": shortcomings(scene),
    }
