"""Whether a GPU that a task is about to be given is really free."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from agent_hooks.gpus import GpuProcess, GpuReading
from agent_hooks.nearness import Links
from fleet.model import AgentSettings, Gpu
from fleet.supervisor.events import Event, Looked
from fleet.supervisor.instructions import Claim, Instruction, ResumePulling
from fleet.supervisor.vacancy import AGAIN_LATER, AGAIN_SOON, SEEN_FREE_FOR, Vacancies
from tests.builders import a_task
from tests.waiting import PATIENCE, wait_for

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OURS, NOBODY = 4_000_001, 4_000_002  # numbers that no process of this machine has
FIRST_PROCESS = 1


@dataclass
class SaidByTheDriver:
    """Two GPUs as a test describes them."""

    used_gib: dict[str, float] = field(default_factory=lambda: {"g0": 0.3, "g1": 0.3})
    held: list[tuple[str, int]] = field(default_factory=list)
    linked: int = 0  # how often their links were asked for

    def read(self) -> tuple[GpuReading, ...]:
        return tuple(
            GpuReading(index=n, uuid=uuid, model="A10", memory_gib=24, memory_used_gib=used)
            for n, (uuid, used) in enumerate(self.used_gib.items())
        )

    def processes(self) -> tuple[GpuProcess, ...]:
        return tuple(GpuProcess(gpu=uuid, pid=pid, memory_gib=None) for uuid, pid in self.held)

    def links(self) -> Links:
        self.linked += 1
        return {frozenset(("g0", "g1")): 0}


class Here:
    """A supervisor's look at such GPUs, step by step."""

    def __init__(self, driver: SaidByTheDriver) -> None:
        self.heard: list[Event] = []
        self.at = T0
        self.vacancies = Vacancies(
            driver, lambda pid: "a1" if pid == OURS else None, AgentSettings(), lambda: self.at, self.heard.append
        )

    def admitted(self, *wanted: Instruction) -> list[Instruction]:
        return list(self.vacancies.admitted(wanted, self.at))

    def looks(self) -> Looked:
        """Waits for the answer and takes it in."""
        wait_for(lambda: self.heard, 5)
        event = self.heard.pop()
        assert isinstance(event, Looked)
        self.vacancies.on_looked(event, self.at)
        return event

    def aside(self) -> list[str]:
        gpus = [Gpu(index=n, uuid=f"g{n}", model="A10", memory_gib=24) for n in range(2)]
        return [gpu.set_aside.text for gpu in self.vacancies.marked(gpus) if gpu.set_aside]


def a_claim(*gpus: str, size: float = 1) -> Claim:
    return Claim(task=a_task(gpus=size), gpus=gpus)


def test_two_tasks_take_parts_of_one_gpu_after_one_look() -> None:
    here, halves = Here(SaidByTheDriver()), (a_claim("g0", size=0.5), a_claim("g0", size=0.5))
    assert here.admitted(*halves) == []
    here.looks()
    assert here.admitted(*halves) == [*halves]
    assert here.admitted(halves[0]) == []


def test_a_claim_waits_until_its_gpus_were_seen_to_be_free_and_each_look_is_good_for_one() -> None:
    here = Here(SaidByTheDriver())
    assert here.admitted(a_claim("g0"), ResumePulling(), a_claim()) == [ResumePulling(), a_claim()]
    assert here.looks().in_use == {}
    assert here.admitted(a_claim("g0")) == [a_claim("g0")]
    assert here.admitted(a_claim("g0")) == []


def test_a_look_of_some_time_ago_is_none() -> None:
    here = Here(SaidByTheDriver())
    here.admitted(a_claim("g0"))
    here.looks()
    here.at += SEEN_FREE_FOR + SECOND
    assert here.admitted(a_claim("g0")) == []


def test_several_claims_are_looked_at_together_and_one_that_is_not_free_keeps_none_of_the_others_waiting() -> None:
    here = Here(SaidByTheDriver(held=[("g0", os.getpid())]))
    here.admitted(a_claim("g0"), a_claim("g1"))
    assert set(here.looks().in_use) == {"g0"}
    assert here.admitted(a_claim("g1")) == [a_claim("g1")]


def test_links_are_read_once_as_long_as_no_new_gpu_is_seen() -> None:
    driver = SaidByTheDriver()
    here = Here(driver)
    for _ in range(2):
        here.admitted(a_claim("g0"))
        here.looks()
        here.at += timedelta(minutes=1)
    assert (here.vacancies.links, driver.linked) == ({frozenset(("g0", "g1")): 0}, 1)
    driver.used_gib["g2"] = 0.0
    here.admitted(a_claim("g0"))
    here.looks()
    assert driver.linked == 2


@pytest.mark.parametrize(
    ("used_gib", "pids", "why"),
    [
        (0.9, (), None),
        (1.0, (), "1.0 GiB of its memory are in use, of 1 that a free one may (agent.gpu_free_below)"),
        (3.0, (NOBODY,), "processes that are no task's compute on it (pid 4000002), 3.0 GiB are in use"),
        (3.0, (5, 4, 3, 2), "processes that are no task's compute on it (pid 2, 3, 4 and others), 3.0 GiB are in use"),
    ],
)
def test_a_whole_gpu_is_free_while_nobody_computes_on_it_and_hardly_any_memory_is_used(used_gib, pids, why) -> None:
    here = Here(SaidByTheDriver(used_gib={"g0": used_gib}, held=[("g0", pid) for pid in pids]))
    here.admitted(a_claim("g0"))
    assert here.looks().in_use.get("g0") == why


@pytest.mark.parametrize(("pid", "is_free"), [(OURS, True), (NOBODY, True), (FIRST_PROCESS, False)])
def test_for_a_part_of_a_gpu_only_a_stranger_that_is_seen_to_be_one_counts(pid: int, is_free: bool) -> None:
    here = Here(SaidByTheDriver(used_gib={"g0": 20.0}, held=[("g0", pid)]))
    here.admitted(a_claim("g0", size=0.5))
    assert ("g0" not in here.looks().in_use) == is_free


def test_a_gpu_that_the_driver_lost_is_given_to_nobody() -> None:
    here = Here(SaidByTheDriver(used_gib={}))
    here.admitted(a_claim("g0"))
    assert here.looks().in_use == {"g0": "the driver does not tell of it any more"}


def test_what_is_set_aside_says_why_and_is_looked_at_again_soon_and_then_now_and_then() -> None:
    driver = SaidByTheDriver(held=[("g0", NOBODY)])
    here = Here(driver)
    here.admitted(a_claim("g0"))
    here.looks()
    (text,) = here.aside()
    assert text.startswith("GPU 0 is set aside: processes that are no task's compute on it (pid 4000002)")
    for again in (AGAIN_SOON, AGAIN_LATER, AGAIN_LATER):
        assert here.vacancies.times() == [here.at + again]
        here.at += again
        here.admitted()
        assert here.vacancies.times() == []  # while it looks
        here.looks()
    driver.held.clear()
    here.at += AGAIN_LATER
    here.admitted()
    here.looks()
    assert (here.aside(), here.vacancies.times()) == ([], [])
    assert here.admitted(a_claim("g0")) == [a_claim("g0")]


@dataclass
class Slow(SaidByTheDriver):
    """Its answer waits until the test lets it go."""

    is_asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def processes(self) -> tuple[GpuProcess, ...]:
        self.is_asked.set()
        assert self.may_answer.wait(20 * PATIENCE)
        return super().processes()


def test_a_look_from_before_a_gpu_was_given_says_nothing_of_it() -> None:
    """A driver that answers late showed the new task's own process, and its GPU was set aside while it ran."""
    driver = Slow()
    here = Here(driver)
    here.admitted(a_claim("g0"))
    driver.may_answer.set()
    here.looks()
    driver.may_answer.clear()
    driver.is_asked.clear()
    assert here.admitted(a_claim("g0", "g1")) == []  # g1 is looked at, and g0 with it
    assert driver.is_asked.wait(20 * PATIENCE)
    here.at += SECOND
    assert here.admitted(a_claim("g0")) == [a_claim("g0")]  # by the first look; the other task has gone elsewhere
    driver.held.append(("g0", OURS))
    driver.may_answer.set()
    assert "g0" in here.looks().in_use
    assert here.aside() == []
    assert here.admitted(a_claim("g1")) == [a_claim("g1")]
