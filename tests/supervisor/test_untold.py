"""What a machine keeps of its past while nobody asks: as much as it needs, however many tasks there were."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.model import GpuNeed, Run, RunResult, Task
from fleet.supervisor.inbox import Inbox
from fleet.supervisor.journal import Entry, Journal
from fleet.supervisor.setbacks import MOST, Setbacks
from fleet.supervisor.untold import MOST_KEPT, MOST_TOLD, Untold
from fleet.web.http import MAX_BODY_BYTES
from fleet.wire import to_data

T0 = datetime(2026, 1, 1, tzinfo=UTC)
LONGEST_NAME = "n" * 10_000


def an_entry(number: int, name: str = "mnist") -> Entry:
    need = GpuNeed(at_least=0, at_most=0)
    at = T0 + timedelta(seconds=number)
    return Entry(
        key=f"a{number}",
        instance="i1",
        task=Task(id=f"{number:032x}", queue="train", position=0, enqueued_at=T0, need=need, name=name),
        gpus=(),
        worker="lab:i1:cpu:0",
        claimed_at=at,
        is_ours=True,
        ended_at=at,
        result=RunResult.COMPLETED,
        exit_code=0,
    )


def filled(journal: Journal, count: int, name: str = "mnist") -> tuple[Untold, list[Run]]:
    untold, runs = Untold(journal), []
    for number in range(count):
        entry = an_entry(number, name)
        journal.keep(entry)
        untold.add(entry.key, entry.run)
        runs.append(entry.run)
    return untold, runs


def test_a_dispatcher_that_is_away_for_weeks_costs_no_more_memory_and_no_more_files_than_the_newest_runs(tmp_path):
    journal = Journal(tmp_path)
    untold, runs = filled(journal, MOST_KEPT + 50)
    assert len(untold) == MOST_KEPT
    assert len(list(tmp_path.iterdir())) == MOST_KEPT
    assert untold.told() == tuple(runs[50 : 50 + MOST_TOLD])


def test_a_dispatcher_that_comes_back_is_told_every_run_that_was_kept_in_parts_that_it_can_take(tmp_path):
    untold, runs = filled(Journal(tmp_path), 2 * MOST_TOLD + 1, LONGEST_NAME)
    told: list[Run] = []
    has_more = True
    while has_more:
        part = untold.told()
        assert len(json.dumps([to_data(run) for run in part])) < MAX_BODY_BYTES
        told += part
        has_more = untold.forget(part)
    assert told == runs
    assert not list(tmp_path.iterdir())


def test_what_the_dispatcher_has_not_seen_is_told_again(tmp_path):
    untold, runs = filled(Journal(tmp_path), 3)
    still_running = replace(runs[0], ended_at=None, result=None)
    assert not untold.forget([still_running])
    assert untold.told() == tuple(runs)
    assert untold.forget([runs[1]])
    assert untold.told() == (runs[0], runs[2])


def test_tasks_that_could_not_be_started_here_and_went_elsewhere_are_forgotten_the_oldest_first():
    setbacks = Setbacks()
    for number in range(10 * MOST):
        setbacks.note(f"t{number}", 1, T0)
        setbacks.note("again and again", setbacks.times("again and again") + 1, T0)
    assert len(setbacks.by_task) == MOST
    assert setbacks.times("again and again") == 10 * MOST
    assert setbacks.times(f"t{10 * MOST - 1}") == 1
    assert setbacks.times("t0") == 0
    setbacks.forget("again and again")
    assert setbacks.times("again and again") == 0


def test_an_event_that_fails_takes_none_of_those_behind_it_along():
    inbox = Inbox()
    for number in range(3):
        inbox.put(number)

    def take_badly() -> None:
        for event in inbox.take(0.0):
            if event == 0:
                raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        take_badly()
    assert list(inbox.take(0.0)) == [1, 2]
    assert list(inbox.take(0.01)) == []


def test_events_that_come_while_others_are_handled_wait_for_the_next_turn():
    inbox = Inbox()
    inbox.put(1)
    taken = []
    for event in inbox.take(0.0):
        taken.append(event)
        inbox.put(2)
        if len(taken) > 3:
            break
    assert len(taken) <= 2
    assert 2 in list(inbox.take(0.0))
