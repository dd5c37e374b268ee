"""kill -9 at every instant: whatever call the dispatcher dies in, before or after it took effect, a restart launches no
second machine and loses none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.dispatcher.world import World


class Killed(BaseException):
    """Not an Exception, so that nothing in the house can catch it."""


class Mortal:
    """Passes calls on and kills the caller at the nth, before or after it took effect."""

    def __init__(self, inner: Any, count: Callable[[], bool], is_after: bool) -> None:
        self._inner, self._count, self._is_after = inner, count, is_after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            dies = self._count()
            if dies and not self._is_after:
                raise Killed(name)
            answer = found(*args, **kwargs)
            if dies:
                raise Killed(name)
            return answer

        return call


def a_life_cut_short(at_call: int, is_after: bool) -> tuple[World, bool]:
    world = World()
    world.enqueue("one", "two")
    calls = 0

    def count() -> bool:
        nonlocal calls
        calls += 1
        return calls == at_call

    parts = world.dispatcher.parts
    mortal = replace(
        parts,
        store=Mortal(parts.store, count, is_after),
        demand=Mortal(parts.demand, count, is_after),
        providers={"fake": Mortal(world.cloud, count, is_after)},
    )
    world.dispatcher.parts = mortal
    world.dispatcher.reconciler.parts = mortal
    world.dispatcher.sweeper.parts = mortal
    try:
        for _ in range(3):
            world.pass_once().after(2)
    except Killed:
        return world, True
    return world, False


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_a_dispatcher_killed_in_any_call_launches_no_second_machine(is_after: bool) -> None:
    at_call = 0
    while True:
        at_call += 1
        world, was_killed = a_life_cut_short(at_call, is_after)
        if not was_killed:
            break
        world.restart("the next")
        for _ in range(12):
            world.after(2)
            world.dispatcher.parts.store.give_up_lead("test", "dispatcher")
            world.pass_once()
        assert len(world.cloud.machines) == 1, f"killed at call {at_call}"
        assert [i.cloud_id for i in world.instances()] == list(world.cloud.machines)
    assert at_call > 15
