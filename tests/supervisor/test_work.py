"""One allocation between the steps of its life: what happens while the answer to a step is awaited."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from fleet.model import Gpu, GpuNeed, Reason, RunResult, Task
from fleet.queues.base import TaskState, TaskStatus
from fleet.supervisor.agents import Outcome
from fleet.supervisor.clock import Clock
from fleet.supervisor.errands import Urgency
from fleet.supervisor.events import Asked, Claimed, Event, Settled, Unasked
from fleet.supervisor.identity import Identity
from fleet.supervisor.inbox import Inbox
from fleet.supervisor.instructions import Claim, StopTask
from fleet.supervisor.memory import open_memory
from fleet.supervisor.situation import Sighting
from fleet.supervisor.work import Work

AT = datetime(2026, 11, 22, tzinfo=UTC)
GPU = Gpu(uuid="GPU-a", index=0, model="A100", memory_gib=40)
TASK = Task(id="t1", queue="train", position=0, enqueued_at=AT, need=GpuNeed(at_least=1, at_most=1))
STOP = StopTask(task="t1", reason=Reason(code="gpu_sick", text="a GPU that it holds is sick"), then=RunResult.REQUEUED)


class Later:
    """Errands that are done when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], Event | None]] = []

    def ask(self, urgency: Urgency, name: str, call: Callable[[], Event | None]) -> None:
        self.asked.append(call)


@pytest.fixture
def errands() -> Later:
    return Later()


@pytest.fixture
def work(tmp_path: Path, errands: Later) -> Work:
    return Work(
        instance="i1",
        worker="lab:a:i1",
        claims=MagicMock(claim=MagicMock(return_value=True)),
        runner=MagicMock(),
        console=MagicMock(),
        sender=MagicMock(),
        errands=errands,  # type: ignore[arg-type]
        moments=MagicMock(),
        clock=Clock(),
        stop_grace=timedelta(seconds=10),
        memory=open_memory(tmp_path, Identity(tmp_path)),
        report=MagicMock(),
    )


def test_a_task_that_is_stopped_while_its_claim_is_noted_leaves_the_journal_to_the_thread_that_notes_it(
    work: Work, errands: Later, tmp_path: Path
) -> None:
    """Two threads at one file: one took the other's unfinished part away, and the machine ended for a broken disk."""
    work.claim(Claim(task=TASK, gpus=("GPU-a",)), (GPU,))
    work.stop(STOP)
    assert list((tmp_path / "journal").iterdir()) == []
    (claim,) = errands.asked
    claimed = claim()
    assert isinstance(claimed, Claimed)
    assert claimed.is_ours
    work.on_claimed(claimed)
    (entry,) = work._memory.journal.read()
    assert (entry.is_ours, entry.stop) == (True, STOP)
    assert work._memory.journal.fault is None
    assert list(work.jobs) == []


def running(work: Work, errands: Later) -> MagicMock:
    """The agent of a task that was claimed and has started."""
    work._runner.is_quick = True
    work.claim(Claim(task=TASK, gpus=("GPU-a",)), (GPU,))
    claimed = errands.asked.pop()()
    assert isinstance(claimed, Claimed)
    work.on_claimed(claimed)
    agent = work._runner.start.return_value = MagicMock(pid=os.getpid())
    work.on_prepared("a1", None)
    return agent


def as_server_has_it(**changes: Any) -> dict[str, TaskState]:
    state = TaskState(
        id="t1",
        name="task",
        status=TaskStatus.IN_PROGRESS,
        status_message="",
        queue_id=None,
        last_worker=None,
        last_update=None,
    )
    return {"t1": replace(state, **changes)}


def test_what_the_server_took_while_the_hooks_of_the_end_ran_is_told_as_it_was_and_the_rest_as_put_back(
    work: Work, errands: Later
) -> None:
    """The ledger said "requeued" of a task that had completed."""
    for n, task in enumerate((TASK, replace(TASK, id="t2")), 1):
        work.claim(Claim(task=task, gpus=("GPU-a",)), (GPU,))
        claimed = errands.asked.pop()()
        assert isinstance(claimed, Claimed)
        work.on_claimed(claimed)
        work._runner.start.return_value = MagicMock(pid=os.getpid())
        work.on_prepared(f"a{n}", None)
        work._runner.bury.return_value = Outcome(exit_code=0)
        work.on_exited(f"a{n}")
        work.on_cleaned_up(f"a{n}", None)
    inbox = Inbox()
    inbox.put(Settled(key="a2", result=RunResult.COMPLETED))
    inbox.put(Settled(key="of a job that is told already", result=RunResult.COMPLETED))
    work.give_up(inbox.take(0.0))
    assert {run.task: run.result for run in work.runs()} == {"t1": RunResult.REQUEUED, "t2": RunResult.COMPLETED}


def test_an_abort_callback_that_was_registered_since_the_last_look_is_asked_for_and_has_the_whole_notice(
    work: Work, errands: Later
) -> None:
    """SIGTERM ends the SDK's reporter, its callback never runs, and what was not saved is lost."""
    agent, now = running(work, errands), work._clock.now()
    work._claims.states.return_value = as_server_has_it(abort_callback_timeout_s=20.0)
    work.stop(replace(STOP, kill_at=now + timedelta(seconds=120)))
    asked = errands.asked.pop()()
    assert isinstance(asked, Asked)
    work.on_asked(asked.key)
    work._claims.ask_to_save.assert_called_once()
    work.on_time(now + timedelta(seconds=110))
    agent.ask_to_end.assert_not_called()
    work.on_time(now + timedelta(seconds=118))
    agent.ask_to_end.assert_called_once()


def test_a_task_without_an_abort_callback_gets_sigterm_as_soon_as_the_server_has_said_so(
    work: Work, errands: Later
) -> None:
    agent, now = running(work, errands), work._clock.now()
    work._claims.states.return_value = as_server_has_it()
    work.stop(replace(STOP, kill_at=now + timedelta(seconds=120)))
    unasked = errands.asked.pop()()
    assert isinstance(unasked, Unasked)
    work.on_unasked(unasked)
    work.on_time(work._clock.now())
    agent.ask_to_end.assert_called_once()
    work._claims.ask_to_save.assert_not_called()


def test_sigterm_waits_two_seconds_for_a_server_that_does_not_answer(work: Work, errands: Later) -> None:
    agent, now = running(work, errands), work._clock.now()
    work.stop(replace(STOP, kill_at=now + timedelta(seconds=120)))
    work.on_time(now + timedelta(seconds=1))
    agent.ask_to_end.assert_not_called()
    work.on_time(now + timedelta(seconds=3))
    agent.ask_to_end.assert_called_once()


def test_a_task_that_has_ended_meanwhile_is_not_asked_to_save_itself(work: Work, errands: Later) -> None:
    """It was back in its queue, and another machine had it: that one's attempt was asked for its end."""
    running(work, errands)
    seen = Sighting(status=TaskStatus.IN_PROGRESS, times=1, abort_callback_s=60)
    work.jobs["a1"].sighting = seen
    work.stop(replace(STOP, kill_at=AT))
    (ask,) = errands.asked
    work._runner.bury.return_value = Outcome(exit_code=-9)
    work.on_exited("a1")
    assert ask() is None
    work._claims.ask_to_save.assert_not_called()
