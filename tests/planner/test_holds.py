"""Which machine is held for a large task that waits, and what goes on around it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.model import Hold, Snapshot, Task
from fleet.planner.plan import plan
from tests.builders import T0, a_queue, a_resource, a_snapshot, a_task, an_instance, need, tasks

HALF_AN_HOUR = timedelta(minutes=30)


def full_fleet(*held: int, tasks: tuple[Task, ...] = (), **changes: Any) -> Snapshot:
    """Machines of four GPUs, of which so many are held, and no more may be launched."""
    instances = tuple(an_instance(f"i{n}", held=count) for n, count in enumerate(held))
    resources = (a_resource(max_instances=len(held)),)
    return a_snapshot(
        tasks=tasks, instances=instances, resources=resources, starvation_after=HALF_AN_HOUR, **changes
    )  # fmt: skip


def where(world: Snapshot) -> dict[str, str | None]:
    return {w.task: w.instance for w in plan(world).waiting}


def holds(world: Snapshot) -> list[tuple[str, str, bool]]:
    return [(h.task, h.instance, h.is_first) for h in plan(world).turns.holds]


def a_hold(task: str = "large", instance: str = "i0", **changes: Any) -> Hold:
    return replace(Hold(task=task, instance=instance, since=T0), **changes)


LARGE = a_task("large", gpus=4)
STARVED = a_task("large", gpus=4, enqueued_at=T0 - HALF_AN_HOUR)
SMALL = a_task("small", position=1)


def test_one_machine_is_held_for_a_large_task_and_the_others_go_on_with_small_ones() -> None:
    world = full_fleet(3, 2, 3, tasks=(LARGE, *(replace(t, position=n + 1) for n, t in enumerate(tasks(4)))))
    assert holds(world) == [("large", "i1", False)]  # most of it is free
    assert Counter(where(world).values()) == {None: 3, "i0": 1, "i2": 1}


def test_a_machine_stays_held_though_another_has_more_free_by_now() -> None:
    assert holds(full_fleet(3, 2, tasks=(LARGE,), holds=(a_hold(),))) == [("large", "i0", False)]


def test_a_machine_that_went_is_replaced_by_another() -> None:
    assert holds(full_fleet(3, 2, tasks=(LARGE,), holds=(a_hold(instance="gone"),))) == [("large", "i1", False)]


def test_no_machine_is_held_for_a_task_that_waits_no_more() -> None:
    assert holds(full_fleet(3, 2, tasks=(SMALL,), holds=(a_hold(is_first=True),))) == []


def test_nothing_is_held_where_a_machine_can_be_launched_instead() -> None:
    world = replace(full_fleet(3, tasks=(LARGE,)), resources=(a_resource(),))
    assert holds(world) == []


def test_no_more_machines_are_held_than_leave_a_quarter_of_the_gpus_idle() -> None:
    large = tuple(a_task(f"large{n}", gpus=4, position=n) for n in range(8))
    assert [task for task, _, _ in holds(full_fleet(*[3] * 8, tasks=large))] == ["large0", "large1"]  # 3 + 3 of 32
    pairs = tuple(a_task(f"pair{n}", gpus=2, position=n) for n in range(9))
    assert len(holds(full_fleet(*[3] * 8, tasks=pairs))) == 8  # one beside each


def test_a_task_ahead_of_a_large_one_may_use_its_machine() -> None:
    urgent = a_task("urgent", queue="fast")
    world = full_fleet(3, tasks=(LARGE, urgent), queues=(a_queue(), a_queue("fast", priority=1)), holds=(a_hold(),))
    assert where(world) == {"urgent": "i0", "large": None}


def test_nothing_may_use_the_machine_of_a_task_that_waited_too_long() -> None:
    urgent = a_task("urgent", queue="fast")
    queues = (a_queue(), a_queue("fast", priority=1))
    world = full_fleet(3, tasks=(STARVED, urgent), queues=queues, holds=(a_hold(is_first=True),))
    assert where(world) == {"urgent": None, "large": None}
    assert holds(world) == [("large", "i0", True)]


def test_a_task_that_waited_too_long_takes_the_hold_from_one_that_did_not() -> None:
    queues = (a_queue("fast", priority=1), a_queue())
    ahead = a_task("ahead", gpus=4, queue="fast")
    assert holds(full_fleet(3, tasks=(ahead, STARVED), queues=queues)) == [("large", "i0", True)]


def test_a_starved_task_gets_the_machine_that_was_held_for_it() -> None:
    urgent = a_task("urgent", queue="fast")
    queues = (a_queue(), a_queue("fast", priority=1))
    world = full_fleet(0, tasks=(STARVED, urgent), queues=queues, holds=(a_hold(is_first=True),))
    assert where(world) == {"urgent": None, "large": "i0"}
    assert holds(world) == [("large", "i0", True)]  # nobody shall be faster there


def test_gpus_that_a_starved_task_does_not_need_are_given_to_others() -> None:
    pair = a_task("large", gpus=2, enqueued_at=T0 - HALF_AN_HOUR)
    world = full_fleet(1, tasks=(pair, SMALL), holds=(a_hold(is_first=True),))
    assert where(world) == {"large": "i0", "small": "i0"}


def test_a_task_of_one_gpu_gets_a_machine_where_parts_are_in_use() -> None:
    half = an_instance("i0", gpus=1, held=1)
    half = replace(half, allocations=(replace(half.allocations[0], share=0.5),))
    whole = a_task("whole", gpus=1)
    part = a_task("part", gpus=0.5, position=1)
    world = replace(full_fleet(1, tasks=(whole, part)), instances=(half,))
    assert holds(world) == [("whole", "i0", False)]
    assert where(world) == {"whole": None, "part": None}


def test_where_nobody_starves_nobody_goes_first() -> None:
    world = replace(full_fleet(3, tasks=(STARVED,)), starvation_after=None)
    assert holds(world) == [("large", "i0", False)]


def test_a_plan_says_when_the_next_task_will_have_waited_too_long() -> None:
    assert plan(full_fleet(4, tasks=(LARGE, SMALL))).wake_at == T0 + HALF_AN_HOUR
    assert plan(full_fleet(4, tasks=(STARVED, SMALL))).wake_at is None


@st.composite
def full_worlds(draw: st.DrawFn) -> Snapshot:
    held = draw(st.lists(st.integers(0, 4), min_size=1, max_size=9))
    sizes = draw(st.lists(st.sampled_from([1, 1, 2, 4]), max_size=12))
    waits = st.sampled_from([timedelta(0), HALF_AN_HOUR])
    found = tuple(
        a_task(f"t{n}", position=n, enqueued_at=T0 - draw(waits), need=need(size)) for n, size in enumerate(sizes)
    )
    return full_fleet(*held, tasks=found)


@settings(max_examples=60, deadline=None)
@given(full_worlds())
def test_a_machine_is_held_for_one_task_and_its_gpus_are_promised_once(world: Snapshot) -> None:
    made = plan(world)
    size = {t.id: t.need.at_least for t in world.tasks}
    promised: Counter[str] = Counter()
    for w in made.waiting:
        if w.instance:
            promised[w.instance] += int(size[w.task])
    for i in world.instances:
        assert promised[i.id] + len(i.allocations) <= len(i.gpus)
    refused = {w.task for w in made.waiting if not w.instance}
    kept = [h for h in made.turns.holds if h.task in refused]
    assert len({h.instance for h in kept}) == len({h.task for h in kept}) == len(kept)
    assert len(kept) <= 1 or sum(size[h.task] - 1 for h in kept) <= len(world.instances)
    # Whoever has waited too long, and still waits, is not sent from machine to machine.
    again = plan(replace(world, holds=made.turns.holds))
    still = {w.task for w in again.waiting if not w.instance}
    now = {h.task: h.instance for h in again.turns.holds if h.task in still}
    assert all(now.get(h.task, h.instance) == h.instance for h in kept if h.is_first)
