"""The clock of the dispatcher's host is set by an hour, or the host sleeps: nothing is ended, launched or spent for it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.dispatcher.clock import BACK, FORWARD, STEP, SteadyClock
from fleet.model import Budget, WhenSpent
from fleet.planner.reaper import CONTACT_LOST_AFTER
from tests.builders import T0, a_resource
from tests.dispatcher.world import World

HOUR = timedelta(hours=1)
# So long between two heartbeats, and so many passes meanwhile as are one.
BEAT_S = 5


class Host:
    """A host whose clock is set and which sleeps, as a test says."""

    def __init__(self) -> None:
        self.wall, self.boot_s, self.awake_s = T0, 100.0, 50.0
        self.clock = SteadyClock(lambda: self.wall, lambda: self.boot_s, lambda: self.awake_s)

    def runs(self, seconds: float) -> datetime:
        self.awake_s += seconds
        return self.sleeps(seconds)

    def sleeps(self, seconds: float) -> datetime:
        self.boot_s += seconds
        self.wall += timedelta(seconds=seconds)
        return self.clock()


def test_without_jumps_it_is_the_clock_of_its_host() -> None:
    host = Host()
    for _ in range(100):
        assert host.runs(2.0) == host.wall
    host.wall += timedelta(milliseconds=3)  # as a time server does all the time
    assert host.runs(2.0) == host.wall


@pytest.mark.parametrize(("off", "within"), [(HOUR, HOUR / FORWARD), (-HOUR, HOUR / BACK)], ids=["forward", "back"])
def test_a_clock_that_is_set_is_followed_slowly_and_told_once(
    off: timedelta, within: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host()
    before = host.runs(1.0)
    host.wall += off
    with caplog.at_level(logging.WARNING, "fleet.dispatcher.clock"):
        assert abs(host.runs(10.0) - before - timedelta(seconds=10)) <= timedelta(seconds=1)
        while host.clock() != host.wall:
            host.runs(60.0)
            assert host.boot_s < 200 + 1.2 * within.total_seconds()
    (said,) = caplog.messages
    assert "follows slowly" in said
    assert host.clock.woken_at() is None


def test_a_clock_that_was_nonsense_is_left_at_once() -> None:
    host = Host()
    host.wall = datetime(2031, 1, 1, tzinfo=UTC)
    assert host.runs(1.0) == host.wall
    assert host.clock.woken_at() == host.wall - timedelta(0)


def test_a_host_that_slept_says_when_it_woke() -> None:
    host = Host()
    host.runs(10.0)
    assert host.clock.woken_at() is None
    woken = host.sleeps(3600.0)
    assert woken == T0 + timedelta(seconds=3610)
    host.runs(10.0)
    assert host.clock.woken_at() == woken


@given(st.lists(st.tuples(st.floats(0, 600), st.integers(-3600, 3600)), max_size=60))
def test_it_never_goes_back_and_never_runs_far_from_true_time(moves: list[tuple[float, int]]) -> None:
    host = Host()
    last = host.clock()
    for seconds, jump_s in moves:
        host.wall += max(min(timedelta(seconds=jump_s), STEP / 2 - (host.wall - last)), -STEP / 2 - (host.wall - last))
        now = host.runs(seconds)
        assert now >= last
        passed = timedelta(seconds=seconds)
        slip = now - last - passed
        assert -BACK * passed - timedelta(microseconds=2) <= slip <= FORWARD * passed + timedelta(microseconds=2)
        last = now


# --- the dispatcher


def lives(world: World, seconds: int) -> None:
    """Machines say that they are well, and passes are made."""
    for _ in range(0, seconds, BEAT_S):
        world.after(BEAT_S)
        for instance in world.instances():
            if instance.enrolled_at:
                world.beat(instance, instance.allocations)
        world.pass_once()


JUMPS = st.lists(
    st.tuples(st.sampled_from([-HOUR, HOUR, -2 * HOUR, timedelta(seconds=-200)]), st.integers(5, 90)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=25, deadline=None)
@given(JUMPS)
def test_however_the_clock_is_set_nothing_is_ended_or_launched_for_it(jumps: list[tuple[timedelta, int]]) -> None:
    """One works, one boots, one intent has no answer."""
    world = World(resources=(a_resource(boot_timeout=timedelta(minutes=15), max_lifetime=timedelta(hours=2)),))
    (task,) = world.enqueue("works")
    world.pass_once()
    works = world.enroll(world.instance())
    world.run(works, task)
    world.enqueue(*(f"more-{n}" for n in range(4)))
    world.pass_once()
    there = set(world.cloud.machines)
    for off, seconds in jumps:
        world.off += off
        lives(world, seconds)
    assert set(world.cloud.machines) == there
    assert world.cloud.terminate_calls == []
    assert [i for i in world.instances() if i.terminate_requested_at or i.drain_requested_at] == []
    assert "task.requeued" not in world.kinds()


@pytest.mark.parametrize("off", [HOUR, -HOUR], ids=["forward", "back"])
def test_what_is_silent_is_still_found_after_a_jump(off: timedelta) -> None:
    world = World()
    world.enqueue("one")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.beat(instance)
    world.after(5).pass_once()
    world.off = off
    lives(world, 20)
    for _ in range(int(CONTACT_LOST_AFTER.total_seconds() * 1.1) // 5 + 1):
        world.after(5).pass_once()
    assert world.cloud.terminate_calls[0] == (f"fake-{instance.id}",)


@pytest.mark.parametrize("off", [HOUR, -HOUR, -3 * HOUR], ids=["an hour forward", "an hour back", "three back"])
def test_a_budget_of_a_day_is_kept_within_a_hundredth_when_the_clock_is_set(off: timedelta) -> None:
    """$1 an hour, and $2 a day: when they are spent, all ends."""
    budget = Budget(max_instances=1, usd_per_day=2.0, when_spent=WhenSpent.STOP)
    world = World(budget=budget, at=T0.replace(hour=6))
    world.enqueue("one")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.run(instance, world.server.waiting(world.queues)[0].id)
    price = instance.offer.price_usd_per_hour or 0.0
    hours = 0.0
    while world.cloud.list("test") and hours < 5:
        if 0.5 <= hours < 0.5 + 60 / 3600:
            world.off = off
        lives(world, 60)
        hours += 60 / 3600
    (machine,) = world.cloud.machines.values()
    assert machine.ended_at
    usd = (machine.ended_at - machine.machine.launched_at) / HOUR * price
    assert 1.5 < usd <= 2.0 * (1 + BACK)


def test_a_host_that_slept_hears_its_machines_before_it_calls_them_silent() -> None:
    world = World()
    world.enqueue("one")
    world.pass_once()
    instance = world.enroll(world.instance())
    world.beat(instance)
    awake_s = [0.0]
    world.clock._awake_s = lambda: awake_s[0]  # the host slept, and everything on it
    world.after(3600).pass_once()
    assert world.instance().terminate_requested_at is None
    world.after(5)
    world.beat(instance)
    world.pass_once()
    assert world.cloud.terminate_calls == []
