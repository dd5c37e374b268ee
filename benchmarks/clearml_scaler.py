"""ClearML's released `AutoScaler`, its own code, driven in virtual time: clock, sleep, API and driver are ours.

Of its 2.1.10 and later the class cannot launch with the driver that ships beside it (it passes `resource=`, which
`AWSDriver.spin_up_worker` calls `resource_conf`). Our driver takes what the class passes, so nothing of its code is changed.

It knows no sizes: a resource belongs to one queue, so there is a queue for each width, with the cheapest shape that holds it.
On each VM one stock clearml-agent takes one task at a time, with all GPUs. Taken at its best: the agent registers when
the VM is up, a launch blocks for no time, a worker that is terminated leaves the server's list at once.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from benchmarks.shapes import Agenda, Bill, Conditions, Job
from fleet.model import Offer
from fleet.simulate.trace import Submission

AGENT_POLLS_EVERY_S = 5.0
AGENT_REPORTS_EVERY_S = 30.0
NO_CAP = 1_000_000
PREFIX = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """Its settings."""

    idle_min: int = 15  # both as it comes
    poll_min: float = 5.0


@dataclass(slots=True, kw_only=True, eq=False)
class Vm:
    """A VM and the agent on it."""

    id: str
    offer: Offer
    queue: str
    launched_at: float
    is_up: bool = False
    registered_at: float = 0.0
    job: Job | None = None
    is_gone: bool = False


@dataclass(slots=True)
class World:
    """The cloud, the queues and the agents that the class sees through its driver and its API."""

    conditions: Conditions
    agenda: Agenda = field(default_factory=Agenda)
    bill: Bill = field(default_factory=Bill)
    queues: dict[str, deque[Job]] = field(default_factory=dict)
    vms: dict[str, Vm] = field(default_factory=dict)  # those that are not gone
    open: int = 0  # tasks that have not ended

    def submit(self, task: Submission) -> None:
        name = queue_of(self.conditions.smallest(task.gpus))
        self.queues[name].append(Job(task=task, left_s=task.duration_s))
        self._wake_agents(name)

    def launch(self, offer: Offer, queue: str) -> str:
        """A VM boots, and its agent registers."""
        at, life_s = self.agenda.at, self.conditions.life_s(offer, self.bill.machines)
        vm = Vm(id=f"i-{self.bill.machines}", offer=offer, queue=queue, launched_at=at)
        self.bill.machines += 1
        self.vms[vm.id] = vm
        self.agenda.add(at + self.conditions.boot_s, partial(self._boot, vm))
        if life_s is not None:
            self.agenda.add(at + life_s, partial(self._take_back, vm))
        return vm.id

    def end(self, vm_id: str) -> None:
        vm = self.vms.pop(vm_id, None)
        if vm is not None:
            vm.is_gone = True
            self.bill.pay(vm.offer, self.agenda.at - vm.launched_at)
            if vm.job is not None:
                self._put_back(vm.job)

    def _boot(self, vm: Vm) -> None:
        if not vm.is_gone:
            vm.is_up, vm.registered_at = True, self.agenda.at
            self._pull(vm)

    def _pull(self, vm: Vm) -> None:
        """What the agent does at each of its polls: the head of its queue, if it has nothing to do."""
        waiting = self.queues[vm.queue]
        if vm.is_gone or not vm.is_up or vm.job is not None or not waiting:
            return
        job = vm.job = waiting.popleft()
        at = job.started_at = self.agenda.at
        if not job.was_started:
            job.was_started = True
            self.bill.waits_s.append(at - job.task.submit_s)
        self.agenda.add(at + job.left_s, partial(self._finish, vm, job, at))

    def _finish(self, vm: Vm, job: Job, started_at: float) -> None:
        if vm.job is job and not vm.is_gone and job.started_at == started_at:
            vm.job = None
            self.open -= 1
            vm.registered_at = self.agenda.at  # from now on it polls at its interval again
            self._pull(vm)

    def _wake_agents(self, queue: str) -> None:
        """Idle agents see a new task at their next poll."""
        at = self.agenda.at
        for vm in self.vms.values():
            if vm.queue == queue and vm.is_up and vm.job is None:
                polls = math.ceil((at - vm.registered_at) / AGENT_POLLS_EVERY_S)
                self.agenda.add(max(vm.registered_at + polls * AGENT_POLLS_EVERY_S, at), partial(self._pull, vm))

    def _take_back(self, vm: Vm) -> None:
        if not vm.is_gone:
            self.bill.preempted += vm.job is not None
            self.end(vm.id)

    def _put_back(self, job: Job) -> None:
        """ClearML itself leaves such a task where it is; here somebody puts it back at once."""
        assert job.started_at is not None
        if step_s := self.conditions.checkpoint_s:
            job.left_s -= (self.agenda.at - job.started_at) // step_s * step_s
        name = queue_of(self.conditions.smallest(job.task.gpus))
        self.queues[name].appendleft(job)
        self._wake_agents(name)


class Api:
    """The calls of `APIClient` that the class makes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.queues = SimpleNamespace(get_all=self._queues, get_by_id=self._queue, create=lambda name: None)
        self.workers = SimpleNamespace(get_all=self._workers)

    def _queues(self, only_fields: Sequence[str]) -> list[Any]:
        return [SimpleNamespace(id=name, name=name) for name in self._world.queues]

    def _queue(self, name: str) -> Any:
        return SimpleNamespace(entries=list(self._world.queues[name]))

    def _workers(self) -> list[Any]:
        return [self._worker(vm) for vm in self._world.vms.values() if vm.is_up]

    def _worker(self, vm: Vm) -> Any:
        age_s = self._world.agenda.at - vm.registered_at
        seen_s = vm.registered_at + age_s // AGENT_REPORTS_EVERY_S * AGENT_REPORTS_EVERY_S
        return SimpleNamespace(
            id=f"{PREFIX}:{vm.queue}:{vm.offer.type}:{vm.id}",
            task=vm.job,
            register_time=_moment(vm.registered_at),
            last_activity_time=_moment(seen_s),
            last_report_time=_moment(seen_s),
        )


class Session:
    """Access to a server, for a class that wants to hand it on."""

    access_key = secret_key = "bench"

    def get_api_server_host(self) -> str:
        return "http://bench"

    get_app_server_host = get_files_server_host = get_api_server_host


class NoThread:
    """The class watches each boot in a thread of its own, in real time, for its log."""

    def __init__(self, target: object, args: object) -> None:
        self.daemon = False

    def start(self) -> None:
        pass


def queue_of(offer: Offer) -> str:
    """The queue of the tasks for which this one is the cheapest."""
    return f"gpu{offer.gpus}"


def run(tasks: Sequence[Submission], conditions: Conditions, settings: Scaler) -> tuple[Bill, str]:
    """What it came to, until the last VM has ended, and which release it was.

    Raises:
        ImportError: the clearml SDK is not installed.
    """
    from clearml.automation import auto_scaler, cloud_driver

    logging.getLogger("clearml.auto_scaler").setLevel(logging.CRITICAL)
    world = World(conditions, open=len(tasks))
    world.queues = {queue_of(offer): deque() for offer in conditions.offers}
    for task in tasks:
        world.agenda.add(task.submit_s, partial(world.submit, task))

    class Driver(cloud_driver.CloudDriver):
        def spin_up_worker(self, resource: dict[str, Any], worker_prefix: str, queue_name: str, task_id: str) -> Any:
            return world.launch(resource["offer"], queue_name)

        def spin_down_worker(self, instance_id: str) -> None:
            world.end(instance_id)

        def kind(self) -> str:
            return "virtual time"

        def instance_id_command(self) -> str:
            return "true"

        def instance_type_key(self) -> str:
            return "instance_type"

    def sleep(seconds: float) -> None:
        world.agenda.run(world.agenda.at + seconds)
        if not world.open and not world.vms:
            scaler.stop()

    offers = {queue_of(offer): offer for offer in conditions.offers}
    config = auto_scaler.ScalerConfig(
        max_idle_time_min=settings.idle_min,
        polling_interval_time_min=settings.poll_min,
        workers_prefix=PREFIX,
        resource_configurations={name: {"instance_type": o.type, "offer": o} for name, o in offers.items()},
        queues={name: [(name, NO_CAP)] for name in offers},
    )
    driver = Driver(**dict.fromkeys(_fields(cloud_driver.CloudDriver), ""))
    with (
        patch.dict(os.environ),  # it hands its server on by CLEARML_API_HOST and the like, to whoever is started later
        patch.object(sys.modules["clearml"].Task, "current_task", staticmethod(lambda: None)),
        patch.multiple(
            auto_scaler,
            sleep=sleep,
            time=lambda: world.agenda.at,
            Thread=NoThread,
            Session=Session,
            APIClient=lambda: Api(world),
        ),
    ):
        scaler = auto_scaler.AutoScaler(config, driver, logging.getLogger("clearml.auto_scaler"))
        scaler.start()
    return world.bill, version("clearml")


def _fields(kind: Any) -> list[str]:
    return [each.name for each in kind.__attrs_attrs__]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
