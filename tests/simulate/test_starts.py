"""Which starts leave all that is planned as it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleet.model import Plan, Reason, Waiting
from fleet.simulate.agenda import EPOCH
from fleet.simulate.starts import Starts
from fleet.simulate.truth import Attempt, Truth

NOW, LASTS = EPOCH + timedelta(hours=1), timedelta(minutes=20)
QUIET = (False, False, NOW + LASTS)


@dataclass
class Booted:
    enrolled_at: datetime | None = NOW
    free: int = 0
    tasks: int = 1


def waits(task: str, instance: str | None, code: str = "demand") -> Waiting:
    return Waiting(task=task, queue="q", reason=Reason(code=code, text=""), instance=instance)


def looked(
    machine: Booted,
    *waiting: Waiting,
    on: str = "m",
    gpus: float = 1,
    enrolled: int = 1,
) -> tuple[bool, bool, datetime | None]:
    """What is found when task a has started on a machine, after a plan that said this."""
    truth, machines = Truth(), {"m": machine, "n": machine}
    starts = Starts(truth, machines, lambda task: LASTS)  # type: ignore[arg-type]
    starts.look(NOW - timedelta(seconds=2))
    for _ in range(enrolled):
        starts.note_enrolled()
    starts.expect(Plan(pass_id="p", at=NOW - timedelta(seconds=30), waiting=waiting, **anything()))
    truth.start(Attempt(task="a", instance=on, gpus=gpus, started_at=NOW))
    return starts.look(NOW)


def anything() -> dict[str, Any]:
    return {"actions": ()}


def test_a_machine_that_comes_and_is_full_as_planned_changes_nothing_until_its_task_ends() -> None:
    assert looked(Booted(), waits("a", "m"), waits("b", "n")) == QUIET
    assert looked(Booted(), waits("a", "m"), waits("c", None, "no_fit")) == QUIET


def test_the_same_for_the_rest_of_a_machine_that_has_tasks() -> None:
    busy = Booted(enrolled_at=NOW - timedelta(hours=1), tasks=2)
    assert looked(busy, waits("a", "m"), enrolled=0) == QUIET


def test_whoever_takes_room_that_is_planned_for_another_makes_a_machine_needed() -> None:
    assert looked(Booted(), waits("a", "n"), waits("b", "m")) == (True, True, None)
    assert looked(Booted(), waits("a", "n"))[:2] == (False, True)


def test_what_was_idle_or_has_room_left_or_is_not_counted_in_gpus_is_looked_at() -> None:
    for machine in (Booted(enrolled_at=NOW - timedelta(hours=1)), Booted(free=10_000), Booted(enrolled_at=None)):
        assert looked(machine, waits("a", "m"))[1]
    assert looked(Booted(), waits("a", "m"), gpus=0)[1]


def test_so_is_a_machine_that_came_for_nobody_and_a_task_that_has_no_place_yet() -> None:
    assert looked(Booted(), waits("a", "m"), enrolled=2)[1]
    assert looked(Booted(), waits("a", "m"), waits("c", None, "soon_free"))[1]


def test_what_was_seen_once_is_not_seen_again() -> None:
    starts = Starts(Truth(), {}, lambda task: LASTS)
    starts.note_enrolled()
    assert starts.look(NOW) == (False, True, None)
    assert starts.look(NOW) == (False, False, None)


def as_planned(*waiting: Waiting, on: str = "m", freed: Booted | None = None) -> bool:
    """Whether all is as planned when a task ended on a machine and task a took its place; `freed`: how the machine is then."""
    truth, machines = Truth(), {"m": Booted(), "n": Booted()}
    starts = Starts(truth, machines, lambda task: LASTS)  # type: ignore[arg-type]
    starts.expect(Plan(pass_id="p", at=NOW - timedelta(seconds=30), waiting=waiting, **anything()))
    truth.start(Attempt(task="a", instance=on, gpus=1, started_at=NOW))
    machines["m"] = freed or Booted()
    starts.look(NOW)
    return starts.is_as_planned()


def test_at_a_limit_whoever_takes_the_place_of_one_that_ended_leaves_the_others_waiting_as_they_were() -> None:
    at_limit = waits("a", None, "max_instances"), waits("b", None, "max_instances")
    assert as_planned(*at_limit)
    assert as_planned(*at_limit, waits("c", None, "no_fit"))


def test_they_are_looked_at_again_where_a_machine_is_not_as_it_was_or_they_wait_for_something_else() -> None:
    at_limit = waits("a", None, "max_instances")
    for other in (Booted(free=10_000), Booted(tasks=2), Booted(enrolled_at=None)):
        assert not as_planned(at_limit, freed=other)
    assert not as_planned(at_limit, waits("b", None, "soon_free"))
    assert not as_planned(waits("b", None, "max_instances"), waits("a", "n"))  # that was planned elsewhere
    assert not as_planned(waits("a", "m"))
