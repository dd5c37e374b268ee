"""Whether tasks on parts of a GPU keep to their share of its memory."""

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from agent_hooks.gpus import GpuProcess, GpuReading
from fleet.model import Gpu, GpuNeed, KeepAwake, Task
from fleet.supervisor.events import Event, Metered
from fleet.supervisor.jobs import Job
from fleet.supervisor.meter import Meter, overuse
from fleet.supervisor.processes import MARK, mark_of
from fleet.supervisor.situation import Overuse
from fleet.supervisor.vigil import Vigil
from tests.waiting import wait_for

T0 = datetime(2026, 1, 1, tzinfo=UTC)
GPU = Gpu(index=0, uuid="g0", model="A10", memory_gib=24)


def a_job(share: float) -> Job:
    need = GpuNeed(at_least=share, at_most=share)
    task = Task(id="t", queue="train", position=0, enqueued_at=T0, need=need)
    return Job(key="a1", task=task, gpus=(GPU,), worker="w:gpu0.1", claimed_at=T0)


@pytest.mark.parametrize(("share", "used_gib"), [(0.5, 12.0), (0.5, 12.4), (1, 24.0), (1, 99.0)])
def test_who_keeps_to_its_share_give_or_take_what_a_context_needs_is_left_alone(share: float, used_gib: float) -> None:
    assert overuse(a_job(share), used_gib) is None


def test_more_than_the_share_is_counted_until_it_is_given_back() -> None:
    job = a_job(0.5)
    for times in (1, 2, 3):
        job.overuse = overuse(job, 13.0)
        assert job.overuse == Overuse(used_gib=13.0, allowed_gib=12.0, times=times)
    job.overuse = overuse(job, 11.0)
    assert job.overuse is None
    assert overuse(job, 13.0) == Overuse(used_gib=13.0, allowed_gib=12.0, times=1)


@dataclass
class SaidByTheDriver:
    """GPUs whose processes are as a test says."""

    found: tuple[GpuProcess, ...]

    def read(self) -> tuple[GpuReading, ...]:
        return ()

    def processes(self) -> tuple[GpuProcess, ...]:
        return self.found


@pytest.fixture
def sleeper():
    """A process of task a1 and its own child."""
    script = "sleep 60 & echo $!; wait"
    with subprocess.Popen(["/bin/sh", "-c", script], env={MARK: "a1"}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        yield process.pid, child
        os.kill(child, 9)
        process.kill()


def test_all_processes_of_a_task_count_together_and_those_of_others_do_not(sleeper) -> None:
    parent, child = sleeper
    holds = ((parent, 3.0), (child, 4.0), (os.getpid(), 5.0), (1, 6.0), (4_000_000, 7.0))
    gpus = SaidByTheDriver(tuple(GpuProcess(gpu="g0", pid=pid, memory_gib=gib) for pid, gib in holds))
    heard: list[Event] = []
    meter = Meter(gpus, mark_of, heard.append)
    meter.look(["a1", "a2"])
    wait_for(lambda: heard, 5)
    assert heard == [Metered(asked=("a1", "a2"), used_gib={"a1": 7.0})]


def test_a_process_that_is_not_ours_has_no_mark_even_if_it_says_so(sleeper) -> None:
    assert mark_of(sleeper[1]) == "a1"
    assert mark_of(1) is None


def test_who_hears_of_a_look_may_look_again_at_once(sleeper) -> None:
    """Else what is due is not asked for before something else happens: the loop sleeps past it."""
    heard: list[bool] = []
    meter = Meter(SaidByTheDriver(()), mark_of, lambda _: heard.append(meter.is_busy))
    meter.look(["a1"])
    vigil = Vigil(KeepAwake(ssh=True), SaidByTheDriver(()), lambda _: heard.append(not vigil.is_wanted))  # type: ignore[arg-type]
    vigil.look(T0)
    wait_for(lambda: len(heard) == 2)
    assert heard == [False, False]
