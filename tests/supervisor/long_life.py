"""A real supervisor in a process of its own, and around it a server, a dispatcher and a cloud that come and go. Its tasks end at once.

Run by `test_long_life.py` as `python -m tests.supervisor.long_life DIRECTORY`; prints JSON: what was held before and after many tasks.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from agent_hooks.gpus import simulated
from agent_hooks.health import NoHealth
from agent_hooks.hooks import Hooks
from agent_hooks.notice import Notice, NoticeKind
from fleet.errors import CentreUnreachable, ServerUnreachable
from fleet.model import AgentSettings, GpuNeed, OnRebalance, Queue, Reason, ServerAccess
from fleet.queues.base import TaskStatus
from fleet.queues.memory import MemoryServer
from fleet.supervisor import untold
from fleet.supervisor.comeback import Comeback
from fleet.supervisor.identity import Identity
from fleet.supervisor.loop import Supervisor
from fleet.supervisor.memory import open_memory
from fleet.supervisor.parts import Parts
from fleet.supervisor.processes import Guard, adopt_orphans
from fleet.supervisor.renewal import Renewing
from fleet.supervisor.runner import Runner
from fleet.supervisor.senses import Senses
from fleet.wire import Enrolled, Heartbeat, Orders
from tests.holding import held
from tests.waiting import wait_for

ONE, NONE = (GpuNeed(at_least=n, at_most=n) for n in (1, 0))
QUEUES = (
    Queue(name="train", resources=("lab",), need=ONE),
    Queue(name="prep", resources=("lab",), need=NONE, slots=8),
)
ACCESS = ServerAccess(
    api_url="http://none", files_url="http://none", web_url="http://none", access_key="a", secret_key="b"
)
ROOMS = ("fleet.supervisor", "agent_hooks", "logging", "psutil")
WARM, MANY, LAST = 40, 160, 30


class World:
    """The server, the dispatcher and the cloud of one machine, in its process."""

    is_remote = True

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.server = MemoryServer(now, first_entries=20)
        self.server.ensure_queues([queue.name for queue in QUEUES])
        self.is_server_away = self.is_centre_away = False
        self.beats = self.looks = self.tasks = 0
        self.end: Reason | None = None
        self.last: Heartbeat | None = None
        self.told: set[str] = set()  # tasks of which the end was told

    def __getattr__(self, verb: str) -> Callable[..., object]:
        """What a supervisor asks of the ClearML server."""
        ask: Callable[..., object] = getattr(self.server, verb)

        def call(*args: object, **more: object) -> object:
            if self.is_server_away:
                raise ServerUnreachable("away")
            with self.lock:
                return ask(*args, **more)

        return call

    # --- the dispatcher

    def speak_as(self, token: str) -> None:
        pass

    def heartbeat(self, facts: Heartbeat) -> Orders:
        if self.is_centre_away:
            raise CentreUnreachable("away")
        self.beats, self.last = self.beats + 1, facts
        self.told |= {run.task for run in facts.runs if run.ended_at}
        return Orders(
            drain=None,
            end=self.end,
            queues=QUEUES,
            idle_timeout=None,
            runs_seen=tuple(run.task for run in facts.runs if run.ended_at),
            hint=0,
            token=f"t{self.beats}" if self.beats % 5 == 0 else None,
        )

    def hint(self, after: int) -> int:
        time.sleep(1.0)
        return after + 1

    # --- the cloud

    def look(self) -> tuple[Notice, ...]:
        time.sleep(0.2)
        self.looks += 1
        notice = Notice(kind=NoticeKind.REBALANCE, at=now(), deadline=None, text=f"notice {self.looks}")
        return (notice,) if self.looks % 2 else ()

    # --- people

    def run(self, count: int) -> None:
        """So many tasks, to their end."""
        with self.lock:
            ids = [self.server.add(f"task {n}", id=f"{self.tasks + n:032x}") for n in range(count)]
            self.tasks += count
            for number, task in enumerate(ids):
                self.server.enqueue(task, QUEUES[number % 2].name)
        wait_for(lambda: self._have_ended(ids), 120, f"{count} tasks end", every_s=0.2)
        with self.lock:
            for task in ids:
                self.server.delete(task)

    def _have_ended(self, ids: list[str]) -> bool:
        with self.lock:
            return {state.status for state in self.server.states(ids).values()} == {TaskStatus.COMPLETED}

    def rest(self) -> None:
        """Until all is told."""
        beats = self.beats + 2
        wait_for(lambda: self.beats > beats and self.last and not self.last.runs, 30, "all is told")


def now() -> datetime:
    return datetime.now(UTC)


def a_supervisor(world: World, directory: Path) -> Supervisor:
    enrolled = Enrolled(
        instance="i1",
        token="t0",
        cluster="test",
        resource="lab",
        server=ACCESS,
        queues=QUEUES,
        agent=AgentSettings(mode="interpreter", on_rebalance=OnRebalance.IGNORE),
        idle_timeout=None,
        poll_interval=timedelta(seconds=0.2),
        heartbeat_interval=timedelta(seconds=0.5),
        contact_timeout=timedelta(seconds=300),
        max_lifetime=None,
    )
    private = directory / "private"
    private.mkdir()
    adopt_orphans()
    guard, gpus, identity = Guard(), simulated('{"count": 8}', "i1"), Identity(private)
    runner = Runner(enrolled.agent, ACCESS, directory / "agents", guard, private)
    runner.prepare()
    centre = Renewing(world, identity, enrolled, Comeback(directory, "i1"))  # type: ignore[arg-type]
    parts = Parts(
        enrolled=enrolled,
        centre=centre,
        claims=world,  # type: ignore[arg-type]
        runner=runner,
        guard=guard,
        gpus=gpus,
        hooks=Hooks(directory / "hooks", {}),
        memory=open_memory(directory, identity),
        senses=Senses(gpus, NoHealth(), directory / "metrics.prom"),
        watches=(world,),
    )
    return Supervisor(parts)


def outside(directory: Path) -> dict[str, int]:
    """What it holds of the machine."""
    process = psutil.Process()
    return {
        "descriptors": process.num_fds(),
        "processes": len(process.children(recursive=True)),
        "files": sum(1 for _ in directory.rglob("*")),
    }


def live(world: World, directory: Path) -> None:
    """Many tasks; of them some while the dispatcher is away, and some that are told a server which is away for a moment."""
    world.run(WARM)
    world.rest()
    before = held(*ROOMS), outside(directory)
    world.run(MANY // 2)
    world.is_centre_away = True
    world.run(MANY // 4)
    world.is_centre_away, world.is_server_away = False, True
    threading.Timer(1.0, lambda: setattr(world, "is_server_away", False)).start()
    world.run(MANY // 4)
    world.rest()
    wait_for(lambda: outside(directory) == before[1], 30, f"it holds no more than {before[1]} of its machine")
    print(json.dumps({"before": before[0], "after": held(*ROOMS)}), flush=True)
    world.is_centre_away = True
    world.run(LAST)


def main() -> None:
    directory, world = Path(sys.argv[1]), World()
    supervisor = a_supervisor(world, directory)

    def person() -> None:
        try:
            live(world, directory)
        finally:
            world.end = Reason(code="test", text="the test is over")
            world.is_centre_away = False

    threading.Thread(target=person, daemon=True).start()
    untold.MOST_TOLD = 10
    supervisor.run()
    print(json.dumps({"tasks": world.tasks, "told": len(world.told)}), flush=True)
    os._exit(0)  # the threads of a supervisor end with its process


if __name__ == "__main__":
    main()
