"""What a dispatcher learns from the runs in its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.database import Database
from fleet.dispatcher.learning import LEARN_AT_LEAST, LOOK_BACK, LOOK_EVERY, Learner
from fleet.dispatcher.parts import Parts, Policy
from fleet.model import Budget, Habits, Instance, Run, RunResult
from fleet.queues.memory import MemoryServer
from fleet.store.base import Store
from fleet.store.memory import MemoryStore
from fleet.store.sql import SqlStore
from tests.builders import BECAUSE, T0, an_instance, an_offer

MINUTE = timedelta(minutes=1)
POLICY = Policy(
    cluster="test",
    resources=(),
    queues=(),
    budget=Budget(),
    centre_url="http://centre",
    server_url="http://server",
    server_kind="embedded",
)


@dataclass
class Watched:
    """A store that says what was asked of it, and how much it answered."""

    store: Store
    asked: list[datetime | None] = field(default_factory=list)
    rows: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def runs(self, ended_after: datetime | None = None) -> tuple[Run, ...]:
        found = self.store.runs(ended_after=ended_after)
        self.asked.append(ended_after)
        self.rows += len(found)
        return found


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    if request.param == "memory":
        yield Watched(MemoryStore())
        return
    database = Database(f"sqlite:///{tmp_path}/fleet.db")
    yield Watched(SqlStore(database))
    database.close()


def a_learner(store: Watched) -> Learner:
    def now() -> datetime:
        raise AssertionError("it is told the time")

    parts = Parts(
        store=store,  # type: ignore[arg-type]
        demand=MemoryServer(now),
        providers={},
        now=now,
        new_id=lambda: "p",
        join_secret=b"secret",
    )
    return Learner(parts.store, POLICY.cluster)


def with_machine(store: Watched, name: str = "i1", **changes: Any) -> Watched:
    machine: Instance = an_instance(name, ready=False, launched_at=None, cloud_id=None, **changes)
    store.record_intents([replace(machine, requested_at=T0 - 20 * MINUTE)])
    return store


def ran(store: Watched, count: int, **changes: Any) -> None:
    """So many runs of five minutes, one after the other, the last of which ends at T0."""
    for n in range(count):
        end = T0 - 5 * n * MINUTE
        run = Run(
            task=f"t{n}",
            instance="i1",
            queue="train",
            worker="w",
            gpus=("GPU-0",),
            claimed_at=end - 5 * MINUTE,
            ended_at=end,
            result=RunResult.COMPLETED,
        )
        store.close_run(replace(run, **changes))


def test_what_ran_teaches_how_long_tasks_run_and_a_restart_forgets_nothing(store: Watched) -> None:
    ran(with_machine(store), 30)
    first = a_learner(store).look(T0 + MINUTE)
    assert first.mean_s == {"train": 300.0, "": 300.0}
    assert a_learner(store).look(T0 + 2 * MINUTE) == first


def test_it_looks_every_ten_minutes_and_only_at_what_is_new(store: Watched) -> None:
    ran(with_machine(store), 30)
    learner = a_learner(store)
    for minutes in range(1, 32):
        learner.look(T0 + minutes * MINUTE)
    assert len(store.asked) == 4
    assert store.asked[-1] is not None
    assert store.asked[-1] >= T0
    assert store.rows < 2 * 30, "of the 30 those of the last minutes are read again, to see who came late"


def test_a_run_that_is_reported_late_counts_and_counts_once(store: Watched) -> None:
    ran(with_machine(store), 30)
    learner = a_learner(store)
    learner.look(T0 + MINUTE)
    ran(store, 1, task="late")
    for looks in (1, 2, 3):
        learner.look(T0 + MINUTE + looks * LOOK_EVERY)
    assert len(learner.stays) == 31


def test_a_store_that_failed_is_asked_for_the_same_again(store: Watched) -> None:
    ran(with_machine(store), 30)
    learner = a_learner(store)
    answer: Callable[..., tuple[Run, ...]] = store.runs

    def fail(ended_after: datetime | None = None) -> tuple[Run, ...]:
        raise ConnectionError("gone for a moment")

    store.runs = fail  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        learner.look(T0 + MINUTE)
    store.runs = answer  # type: ignore[method-assign]
    assert learner.look(T0 + 2 * MINUTE).mean_s["train"] == 300.0


def test_too_few_runs_teach_nothing_yet(store: Watched) -> None:
    ran(with_machine(store), LEARN_AT_LEAST - 1)
    assert a_learner(store).look(T0 + MINUTE) == Habits()


def test_runs_of_machines_that_are_gone_for_longer_than_it_looks_back_are_left_out(store: Watched) -> None:
    ran(with_machine(store), 30)
    store.note_gone("i1", BECAUSE, T0)
    assert a_learner(store).look(T0 + LOOK_BACK + timedelta(days=1)) == Habits()


def test_clocks_that_went_wrong_and_tasks_without_gpus_do_no_harm(store: Watched) -> None:
    ran(with_machine(store), 30)
    ran(store, 1, task="zero", claimed_at=T0, enqueued_at=T0)
    ran(store, 1, task="backwards", claimed_at=T0 + 9 * MINUTE)
    ran(store, 1, task="from the future", claimed_at=T0 - 5 * MINUTE, enqueued_at=T0 + timedelta(days=3))
    ran(store, 1, task="cpu", gpus=())
    assert a_learner(store).look(T0 + MINUTE).mean_s["train"] == 300.0


@pytest.mark.parametrize("usd", [None, 0.0, -1.0])
def test_machines_without_a_price_do_no_harm(store: Watched, usd: float | None) -> None:
    ran(with_machine(store, offer=an_offer(usd=usd)), 30)
    habits = a_learner(store).look(T0 + MINUTE)
    assert (habits.bands, habits.mean_s["train"]) == ({}, 300.0)
