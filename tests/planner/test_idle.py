"""`idle_timeout: auto`: how long each idle machine is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fleet.model import Band, Habits, Instance
from fleet.planner.idle import band_of, idle_timeouts, patience_s
from fleet.planner.plan import plan
from tests.builders import T0, a_resource, a_snapshot, an_instance

KIND = ("gpu", "fake-4gpu")
LOW, HIGH = Band(level=1, idle_s=3600.0, patience_s=0.0), Band(level=3, idle_s=60.0, patience_s=45.0)
HABITS = Habits(bands={KIND: (LOW, HIGH)})
AUTO = {"gpu": True}


def idle(name: str, minutes: float) -> Instance:
    return an_instance(name, idle_since=T0 - timedelta(minutes=minutes))


def test_the_machine_that_is_idle_longest_stands_for_the_last_of_all() -> None:
    found = idle_timeouts((idle("new", 1), idle("old", 9), an_instance("busy", held=1)), HABITS, AUTO)
    assert found == {"old": timedelta(minutes=1), "new": timedelta(hours=1)}


def test_only_machines_of_resources_with_auto_that_are_idle_now_are_told() -> None:
    assert idle_timeouts((idle("i1", 5),), HABITS, {}) == {}
    draining = replace(idle("i2", 5), drain_requested_at=T0)
    others = an_instance("busy", held=1), an_instance("boots", ready=False)
    assert idle_timeouts((draining, *others), HABITS, AUTO) == {}


def test_before_anything_was_learned_of_its_kind_the_fixed_time_holds() -> None:
    assert idle_timeouts((idle("i1", 5),), Habits(), AUTO) == {}


def test_the_highest_band_holds_for_more_machines_than_were_ever_seen() -> None:
    assert [band_of((LOW, HIGH), n) for n in (0, 1, 2, 3, 99)] == [None, LOW, LOW, HIGH, HIGH]


def test_nobody_waits_for_a_busy_machine_where_few_are_busy_or_tasks_are_long() -> None:
    assert patience_s(HABITS, KIND, busy=40, runs_s=600.0) == 45.0
    assert patience_s(HABITS, KIND, busy=3, runs_s=600.0) == 0.0
    assert patience_s(HABITS, KIND, busy=40, runs_s=86400.0) == 0.0
    assert patience_s(HABITS, ("gpu", "other"), busy=40, runs_s=600.0) == 0.0
    assert patience_s(HABITS, KIND, busy=40, runs_s=0.0) == 0.0


def test_a_plan_tells_an_idle_machine_once_how_long_it_is_kept() -> None:
    world = a_snapshot(resources=(a_resource(is_idle_auto=True),), instances=(idle("i1", 5),), habits=HABITS)
    ((name, standing),) = plan(world).standings
    assert (name, standing.idle_timeout) == ("i1", timedelta(hours=1))
    told = replace(idle("i1", 5), standing=standing)
    assert plan(replace(world, instances=(told,))).standings == ()
    fixed = replace(world, resources=(a_resource(),))
    assert plan(fixed).standings == ()
